package wire

import (
	"errors"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/descriptorpb"
)

// maxDepth is how deep messages may nest, as in C++ protobuf. The generated
// decoders recurse without a limit.
const maxDepth = 100

var (
	errMalformed = errors.New("malformed protobuf")
	errTooDeep   = errors.New("protobuf nested more than 100 levels deep")
)

// checkBinary walks an encoded message. It returns the paths of required fields
// that are missing. An enum number that the descriptor does not know counts as
// unset, as in C++.
func checkBinary(s *shape, b []byte) (missing []string, err error) {
	return checkLevel(s, b, "", 0, nil)
}

func checkLevel(s *shape, b []byte, path string, depth int, missing []string) ([]string, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	var seen uint64
	var index map[protowire.Number]int
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 || kind == protowire.StartGroupType || kind == protowire.EndGroupType {
			return nil, errMalformed
		}
		b = b[n:]
		n = protowire.ConsumeFieldValue(number, kind, b)
		if n < 0 {
			return nil, errMalformed
		}
		value := b[:n]
		b = b[n:]
		f := s.byNumber[number]
		if f == nil {
			continue
		}
		packed := f.repeated && kind == protowire.BytesType && f.wireType() != protowire.BytesType
		if kind != f.wireType() && !packed {
			return nil, errMalformed
		}
		if f.required >= 0 && f.known(value) {
			seen |= 1 << f.required
		}
		if f.message == nil {
			continue
		}
		below := path + f.name
		if f.repeated {
			if index == nil {
				index = make(map[protowire.Number]int)
			}
			below += "[" + strconv.Itoa(index[number]) + "]"
			index[number]++
		}
		content, _ := protowire.ConsumeBytes(value)
		var err error
		if missing, err = checkLevel(f.message, content, below+".", depth+1, missing); err != nil {
			return nil, err
		}
	}
	// C++ lists a message's own missing fields before those of its children; here
	// they follow, because children are met first. Nothing depends on it: Mesos'
	// recorded answers name siblings only.
	for _, f := range s.required {
		if seen&(1<<f.required) == 0 {
			missing = append(missing, path+f.name)
		}
	}
	return missing, nil
}

// known reports whether an encoded value counts as set.
func (f *field) known(value []byte) bool {
	if f.kind != descriptorpb.FieldDescriptorProto_TYPE_ENUM {
		return true
	}
	v, n := protowire.ConsumeVarint(value)
	if n < 0 {
		return false
	}
	_, ok := f.enum.names[int32(v)]
	return ok
}

// Presence answers which fields a decoded message really contained.
type Presence struct {
	shape  *shape
	binary []byte
}

// Has reports whether the field at a path of field names is set. An element of a
// repeated field is named by its index after the field's name: Has("accept",
// "operations", 0, "launch"). Without an index the first element is meant.
// A path that the message type does not have is not set.
func (p Presence) Has(path ...any) bool {
	s, b := p.shape, p.binary
	for i := 0; i < len(path); i++ {
		if s == nil {
			return false
		}
		name, ok := path[i].(string)
		f := s.byName[name]
		if !ok || f == nil {
			return false
		}
		skip := 0
		if i+1 < len(path) {
			if index, ok := path[i+1].(int); ok {
				skip = index
				i++
			}
		}
		value, found := f.find(b, skip)
		if !found || !f.known(value) {
			return false
		}
		s = f.message
		if s != nil {
			b, _ = protowire.ConsumeBytes(value)
		}
	}
	return true
}

// find returns the encoded value of the field in b: the last one of a singular
// field, the one after skip others of a repeated field.
func (f *field) find(b []byte, skip int) (value []byte, found bool) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, false
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return nil, false
		}
		if number == f.number {
			value, found = b[:n], true
			if f.repeated {
				if skip == 0 {
					return value, true
				}
				skip--
				value, found = nil, false
			}
		}
		b = b[n:]
	}
	return value, found
}
