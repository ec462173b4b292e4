"""Programs that show how to use the service; each is started by one command, see examples/README.md."""
