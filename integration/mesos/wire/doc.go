// Package wire puts mesos-go's generated messages on HTTP the way Apache Mesos
// does: protobuf, Mesos' own JSON mapping, RecordIO framing, and the order and
// texts with which Mesos refuses a request.
//
// [ContentType] marshals and unmarshals. mesos-go's generated JSON is not used:
// it writes unset fields as null and zero enums as "UNKNOWN". The JSON here is
// derived from the protobuf descriptors, by way of the binary form:
//
//   - written: a field is there when it is set, or when it declares a default and
//     is not deprecated; empty repeated fields are left out; enums are names,
//     bytes base64, 64-bit integers numbers, names as in the .proto file.
//   - read: unknown keys are ignored, null means unset, a single value stands for
//     a list of one, numbers and booleans may be strings, enums only names. An
//     unknown enum name leaves an optional field unset and is an error in a
//     required one.
//
// [ReadCall] takes a request to a call, or to the [Refusal] that Mesos answers
// with. [Presence] tells an absent field from one that has its zero value, which
// mesos-go's structs cannot for enums such as Call.type.
//
// [RecordReader] and [AppendRecord] are RecordIO: the length in decimal digits,
// a line feed, the payload, nothing between records. [Stream] is the server's end
// of an event stream.
//
// One thing is not kept: an optional enum that mesos-go declares non-nullable is
// written as UNKNOWN in protobuf when it was never set. JSON leaves it out.
package wire
