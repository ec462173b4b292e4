"""The streaming service: sessions, dispatch of frames to engines, fusion over time, metrics."""
