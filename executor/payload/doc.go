// Package payload is the contract between Pacer's scheduler and its executor:
// the protobuf message that travels in TaskInfo.data.
//
// It is a leaf: it imports nothing of Pacer, and it is all that scheduler and
// executor share. Fields are only ever added; what an older executor would
// misread raises [Version] instead, and such an executor then refuses the task
// with a message that names both versions.
package payload

//go:generate protoc --plugin=../../bin/protoc-gen-go --go_out=../.. --go_opt=module=pacer -I ../.. executor/payload/payload.proto
