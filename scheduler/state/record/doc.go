// Package record holds the encodings of what the scheduler stores, generated
// from record.proto. Only package state uses it: the rest of the scheduler
// sees state's own types.
package record

//go:generate protoc --plugin=../../../bin/protoc-gen-go --go_out=../../.. --go_opt=module=pacer -I ../../.. scheduler/state/record/record.proto
