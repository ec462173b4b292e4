"""Runners: everything that turns a batch of network inputs into alphas, behind one contract."""
