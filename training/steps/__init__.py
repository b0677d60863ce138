"""What moves the weights: noise, loss, optimizers, rates, and how a step is computed."""
