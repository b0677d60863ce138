"""Options of training, in groups that TrainOptions is composed of."""
