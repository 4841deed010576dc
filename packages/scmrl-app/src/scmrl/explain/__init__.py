"""Why a model says what it says of one sample: what was read, what counted, which neurons fired."""
