package main

import (
	"fmt"

	"google.golang.org/protobuf/proto"
)

// codec writes messages by the protobuf package that generated them. gRPC 1.33, which Debian 12 has, brings an older
// one that ends in a panic at every oneof; with a newer one leave this out.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(value interface{}) ([]byte, error) {
	message, isMessage := value.(proto.Message)
	if !isMessage {
		return nil, fmt.Errorf("%T is no message", value)
	}
	return proto.Marshal(message)
}

func (codec) Unmarshal(data []byte, value interface{}) error {
	message, isMessage := value.(proto.Message)
	if !isMessage {
		return fmt.Errorf("%T is no message", value)
	}
	return proto.Unmarshal(data, message)
}
