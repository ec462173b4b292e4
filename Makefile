.PHONY: proto
proto:
	.venv/bin/python -m grpc_tools.protoc -I proto --python_out=. --grpc_python_out=. --mypy_out=readable_stubs:. --mypy_grpc_out=. proto/humanseg/v1/segmentation.proto
