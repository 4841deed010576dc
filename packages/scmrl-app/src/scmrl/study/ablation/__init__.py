"""Compare every fusion method, each modality alone, and S-CMRL without each of its parts."""
