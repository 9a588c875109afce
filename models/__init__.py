"""Arrays and tensors only: the signal table, the window, the networks, the artifact, the predictor backends."""
