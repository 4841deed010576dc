"""Operations and energy of one inference, for a spiking network and the same network without spikes."""
