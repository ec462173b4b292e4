"""Training of the models: data, networks, losses and the commands train, evaluate and export."""
