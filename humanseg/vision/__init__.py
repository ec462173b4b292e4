"""Pure picture functions shared by service, training and benchmarks: numpy and OpenCV in, numpy out.

No gRPC, no asyncio, no files, no clock, no logging lives here (import-linter holds the line).
"""
