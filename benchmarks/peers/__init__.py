"""What people would use instead of the service, each behind `peer.Peer`, and the service itself, in one comparison."""
