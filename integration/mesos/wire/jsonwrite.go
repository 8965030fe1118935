package wire

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/descriptorpb"
)

// appendJSON renders an encoded message of shape s as Mesos' JSON.
func appendJSON(out []byte, s *shape, b []byte) ([]byte, error) {
	return appendObject(out, s, b, 0)
}

func appendObject(out []byte, s *shape, b []byte, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	values, err := collect(s, b)
	if err != nil {
		return nil, err
	}
	out = append(out, '{')
	first := true
	for i, f := range s.fields {
		found := values[i]
		if len(found) == 0 && f.fallback == "" && !f.listed {
			continue
		}
		if f.zeroIsUnset && len(found) == 1 && len(found[0]) == 1 && found[0][0] == 0 {
			continue
		}
		if !first {
			out = append(out, ',')
		}
		first = false
		out = append(out, '"')
		out = append(out, f.name...)
		out = append(out, `":`...)
		switch {
		case len(found) == 0 && !f.listed:
			out = append(out, f.fallback...)
		case f.message != nil && f.message.mapEntry:
			out, err = appendMap(out, f.message, found, depth+1)
		case f.repeated:
			out = append(out, '[')
			for i, value := range found {
				if i > 0 {
					out = append(out, ',')
				}
				if out, err = appendValue(out, f, value, depth+1); err != nil {
					return nil, err
				}
			}
			out = append(out, ']')
		default:
			out, err = appendValue(out, f, found[len(found)-1], depth+1)
		}
		if err != nil {
			return nil, err
		}
	}
	return append(out, '}'), nil
}

// collect gathers the encoded values of each field, in the order of s.fields.
// Enum numbers that the descriptor does not know count as unset.
func collect(s *shape, b []byte) ([][][]byte, error) {
	values := make([][][]byte, len(s.fields))
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, errMalformed
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return nil, errMalformed
		}
		value := b[:n]
		b = b[n:]
		f := s.byNumber[number]
		if f == nil {
			continue
		}
		if kind == f.wireType() {
			if f.known(value) {
				values[f.index] = append(values[f.index], value)
			}
			continue
		}
		if !f.repeated || kind != protowire.BytesType {
			return nil, errMalformed
		}
		packed, _ := protowire.ConsumeBytes(value)
		for len(packed) > 0 {
			if n = protowire.ConsumeFieldValue(number, f.wireType(), packed); n < 0 {
				return nil, errMalformed
			}
			if f.known(packed[:n]) {
				values[f.index] = append(values[f.index], packed[:n])
			}
			packed = packed[n:]
		}
	}
	return values, nil
}

// appendMap renders a map field: one member per entry.
func appendMap(out []byte, entry *shape, entries [][]byte, depth int) ([]byte, error) {
	key, value := entry.byNumber[1], entry.byNumber[2]
	out = append(out, '{')
	for i, e := range entries {
		content, n := protowire.ConsumeBytes(e)
		if n < 0 {
			return nil, errMalformed
		}
		if i > 0 {
			out = append(out, ',')
		}
		var name []byte
		if raw, ok := key.find(content, 0); ok {
			text, err := appendValue(nil, key, raw, depth)
			if err != nil {
				return nil, err
			}
			name = text
		}
		if len(name) == 0 || name[0] != '"' {
			name = []byte(`"` + string(name) + `"`)
		}
		out = append(append(out, name...), ':')
		raw, ok := value.find(content, 0)
		if !ok {
			raw = protowire.AppendBytes(nil, nil)
			if value.wireType() != protowire.BytesType {
				raw = make([]byte, 8)
			}
		}
		var err error
		if out, err = appendValue(out, value, raw, depth); err != nil {
			return nil, err
		}
	}
	return append(out, '}'), nil
}

func appendValue(out []byte, f *field, value []byte, depth int) ([]byte, error) {
	switch f.wireType() {
	case protowire.BytesType:
		content, n := protowire.ConsumeBytes(value)
		if n < 0 {
			return nil, errMalformed
		}
		switch f.kind {
		case descriptorpb.FieldDescriptorProto_TYPE_MESSAGE:
			return appendObject(out, f.message, content, depth)
		case descriptorpb.FieldDescriptorProto_TYPE_BYTES:
			out = append(out, '"')
			out = base64.StdEncoding.AppendEncode(out, content)
			return append(out, '"'), nil
		}
		return appendString(out, content), nil
	case protowire.Fixed64Type:
		v, n := protowire.ConsumeFixed64(value)
		if n < 0 {
			return nil, errMalformed
		}
		switch f.kind {
		case descriptorpb.FieldDescriptorProto_TYPE_DOUBLE:
			return appendDouble(out, math.Float64frombits(v)), nil
		case descriptorpb.FieldDescriptorProto_TYPE_SFIXED64:
			return strconv.AppendInt(out, int64(v), 10), nil
		}
		return strconv.AppendUint(out, v, 10), nil
	case protowire.Fixed32Type:
		v, n := protowire.ConsumeFixed32(value)
		if n < 0 {
			return nil, errMalformed
		}
		switch f.kind {
		case descriptorpb.FieldDescriptorProto_TYPE_FLOAT:
			return appendDouble(out, float64(math.Float32frombits(v))), nil
		case descriptorpb.FieldDescriptorProto_TYPE_SFIXED32:
			return strconv.AppendInt(out, int64(int32(v)), 10), nil
		}
		return strconv.AppendUint(out, uint64(v), 10), nil
	}
	v, n := protowire.ConsumeVarint(value)
	if n < 0 {
		return nil, errMalformed
	}
	switch f.kind {
	case descriptorpb.FieldDescriptorProto_TYPE_BOOL:
		return strconv.AppendBool(out, v != 0), nil
	case descriptorpb.FieldDescriptorProto_TYPE_ENUM:
		name, ok := f.enum.names[int32(v)]
		if !ok {
			return nil, fmt.Errorf("field %s: enum has no value %d", f.name, int32(v))
		}
		return append(append(append(out, '"'), name...), '"'), nil
	case descriptorpb.FieldDescriptorProto_TYPE_UINT64, descriptorpb.FieldDescriptorProto_TYPE_UINT32:
		return strconv.AppendUint(out, v, 10), nil
	case descriptorpb.FieldDescriptorProto_TYPE_SINT32, descriptorpb.FieldDescriptorProto_TYPE_SINT64:
		return strconv.AppendInt(out, protowire.DecodeZigZag(v), 10), nil
	}
	return strconv.AppendInt(out, int64(v), 10), nil
}

// appendDouble writes 15 significant digits, as Mesos does, with a fraction
// always, so that 15 reads 15.0. What JSON cannot say becomes null.
func appendDouble(out []byte, v float64) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(out, "null"...)
	}
	start := len(out)
	out = strconv.AppendFloat(out, v, 'g', 15, 64)
	text := string(out[start:])
	mantissa, exponent, scientific := strings.Cut(text, "e")
	if scientific {
		if power, err := strconv.Atoi(exponent); err == nil && power >= 0 && power < 15 {
			mantissa, exponent, scientific = strconv.FormatFloat(v, 'f', -1, 64), "", false
		}
	}
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	out = append(out[:start], mantissa...)
	if scientific {
		out = append(append(out, 'e'), exponent...)
	}
	return out
}

// appendString quotes text. Bytes above 0x7f pass through as they are.
func appendString(out, text []byte) []byte {
	const hex = "0123456789abcdef"
	out = append(out, '"')
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c == '\n':
			out = append(out, '\\', 'n')
		case c == '\r':
			out = append(out, '\\', 'r')
		case c == '\t':
			out = append(out, '\\', 't')
		case c < 0x20 || c == 0x7f:
			out = append(out, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			out = append(out, c)
		}
	}
	return append(out, '"')
}

// defaultJSON renders a default as the descriptor spells it.
func defaultJSON(f *field, text string) string {
	switch f.kind {
	case descriptorpb.FieldDescriptorProto_TYPE_STRING,
		descriptorpb.FieldDescriptorProto_TYPE_BYTES:
		return string(appendString(nil, []byte(text)))
	case descriptorpb.FieldDescriptorProto_TYPE_ENUM:
		return `"` + text + `"`
	case descriptorpb.FieldDescriptorProto_TYPE_DOUBLE,
		descriptorpb.FieldDescriptorProto_TYPE_FLOAT:
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return ""
		}
		return string(appendDouble(nil, v))
	}
	return text
}
