#!/bin/sh
# Makes the stubs, builds the client and runs it with the arguments given; all it makes lies in build/ beside this file.
# Debian: apt-get install golang-go golang-google-grpc-dev golang-google-protobuf-dev protoc-gen-go-1-5 \
#   protoc-gen-go-grpc protobuf-compiler libprotobuf-dev
set -eu
here=$(cd "$(dirname "$0")" && pwd)
proto=$here/../../proto/humanseg/v1/segmentation.proto
build=$here/build
stubs=$build/src/humanseg/v1

for program in go protoc protoc-gen-go protoc-gen-go-grpc; do
	command -v "$program" >/dev/null || { echo "$program is missing; see the head of $0" >&2; exit 1; }
done

# No modules: Debian's packages lie in a GOPATH, and nothing is fetched.
export GO111MODULE=off GOPATH="/usr/share/gocode:$build" GOCACHE="${GOCACHE:-$build/cache}" GOFLAGS=
if [ ! -e "$stubs/stamp" ] || [ "$proto" -nt "$stubs/stamp" ]; then
	mkdir -p "$stubs"
	map=Mhumanseg/v1/segmentation.proto=humanseg/v1
	protoc -I "$here/../../proto" -I /usr/include \
		--go_out="$build/src" --go_opt="$map" --go-grpc_out="$build/src" --go-grpc_opt="$map" "$proto"
	touch "$stubs/stamp"
fi
go build -o "$build/client" "$here"/*.go
exec "$build/client" "$@"
