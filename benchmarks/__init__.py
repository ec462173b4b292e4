"""Measuring the service from outside, over the wire, as its users meet it. Nothing here is installed."""
