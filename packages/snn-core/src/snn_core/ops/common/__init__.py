"""What the operations share: arguments, registration, choice of implementation, CPU builds and memory."""
