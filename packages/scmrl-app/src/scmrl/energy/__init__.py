"""What one inference costs: operations of a spiking network and of its twin without spikes, times energy each."""
