package wire

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync"

	gogo "github.com/gogo/protobuf/proto"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

// shape is what the codecs need to know of one message type.
type shape struct {
	name     string
	mapEntry bool
	fields   []*field // in the order of declaration
	byNumber map[protowire.Number]*field
	byName   map[string]*field
	required []*field // each knows its index here
}

// field is one field of a shape.
type field struct {
	name     string
	number   protowire.Number
	index    int // in shape.fields
	kind     descriptorpb.FieldDescriptorProto_Type
	repeated bool
	required int // index in shape.required, or -1
	message  *shape
	enum     *enum
	// fallback is the JSON text of the declared default, written when the field
	// is not set; "" when there is none or the field is deprecated.
	fallback string
	// zeroIsUnset marks an optional enum that mesos-go keeps as a plain value, so
	// that its zero is on the wire although nobody set it.
	zeroIsUnset bool
	// listed marks a list that is written even when it is empty.
	listed bool
}

// listings are the operator API's answers that Mesos renders by hand: their lists
// are there even when they are empty, unless deprecated.
var listings = map[string]bool{
	"mesos.agent.Response.GetExecutors":   true,
	"mesos.agent.Response.GetFrameworks":  true,
	"mesos.agent.Response.GetTasks":       true,
	"mesos.master.Response.GetAgents":     true,
	"mesos.master.Response.GetExecutors":  true,
	"mesos.master.Response.GetFrameworks": true,
	"mesos.master.Response.GetTasks":      true,
}

// younger are enum values that Mesos sends and mesos-go's definitions lack.
var younger = map[string]map[int32]string{
	"mesos.MasterInfo.Capability.Type": {3: "QUOTA_V2"},
}

// constraints are messages that have a field offer_constraints in newer definitions
// than mesos-go's. Mesos always sets it, and without constraints it is empty.
var constraints = map[string]bool{
	"mesos.master.Response.GetFrameworks.Framework": true,
}

type enum struct {
	names   map[int32]string
	numbers map[string]int32
}

// wireType is the encoding of a single, unpacked value.
func (f *field) wireType() protowire.Type {
	switch f.kind {
	case descriptorpb.FieldDescriptorProto_TYPE_DOUBLE,
		descriptorpb.FieldDescriptorProto_TYPE_FIXED64,
		descriptorpb.FieldDescriptorProto_TYPE_SFIXED64:
		return protowire.Fixed64Type
	case descriptorpb.FieldDescriptorProto_TYPE_FLOAT,
		descriptorpb.FieldDescriptorProto_TYPE_FIXED32,
		descriptorpb.FieldDescriptorProto_TYPE_SFIXED32:
		return protowire.Fixed32Type
	case descriptorpb.FieldDescriptorProto_TYPE_STRING,
		descriptorpb.FieldDescriptorProto_TYPE_BYTES,
		descriptorpb.FieldDescriptorProto_TYPE_MESSAGE:
		return protowire.BytesType
	default:
		return protowire.VarintType
	}
}

// shapes indexes every message and enum of the descriptor files seen so far.
var shapes = struct {
	sync.Mutex
	files    map[string]bool // by the name in the file itself
	messages map[string]*shape
	enums    map[string]*enum
}{
	files:    make(map[string]bool),
	messages: make(map[string]*shape),
	enums:    make(map[string]*enum),
}

// byType remembers shapeOf's answers by the message's Go type.
var byType sync.Map

func shapeOf(m Message) (*shape, error) {
	goType := reflect.TypeOf(m)
	if known, ok := byType.Load(goType); ok {
		return known.(*shape), nil
	}
	packed, path := m.Descriptor()
	if len(packed) == 0 || len(path) == 0 {
		return nil, fmt.Errorf("%T has no descriptor", m)
	}
	shapes.Lock()
	defer shapes.Unlock()
	file, err := unpack(packed)
	if err != nil {
		return nil, fmt.Errorf("descriptor of %T: %w", m, err)
	}
	if err := indexLocked(file); err != nil {
		return nil, fmt.Errorf("descriptor of %T: %w", m, err)
	}
	message := file.GetMessageType()[path[0]]
	name := qualify(file.GetPackage(), message.GetName())
	for _, i := range path[1:] {
		message = message.GetNestedType()[i]
		name = qualify(name, message.GetName())
	}
	found := shapes.messages[name]
	byType.Store(goType, found)
	return found, nil
}

func unpack(packed []byte) (*descriptorpb.FileDescriptorProto, error) {
	unzip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	raw, err := io.ReadAll(unzip)
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	file := new(descriptorpb.FileDescriptorProto)
	// Without a resolver gogo's options stay unknown fields, see plainValue.
	if err := (proto.UnmarshalOptions{Resolver: nil}).Unmarshal(raw, file); err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	return file, nil
}

// indexLocked adds a file's messages and those of the files it imports.
func indexLocked(file *descriptorpb.FileDescriptorProto) error {
	if shapes.files[file.GetName()] {
		return nil
	}
	shapes.files[file.GetName()] = true
	for _, dependency := range file.GetDependency() {
		// mesos-go's files import each other by the repository's path and are
		// registered by the path below lib.
		packed := gogo.FileDescriptor(strings.TrimPrefix(dependency, "github.com/mesos/mesos-go/api/v1/lib/"))
		if packed == nil {
			continue // gogo.proto: options only
		}
		imported, err := unpack(packed)
		if err != nil {
			return fmt.Errorf("%s: %w", dependency, err)
		}
		if err := indexLocked(imported); err != nil {
			return err
		}
	}
	for _, e := range file.GetEnumType() {
		addEnumLocked(file.GetPackage(), e)
	}
	for _, m := range file.GetMessageType() {
		declareLocked(file.GetPackage(), m)
	}
	for _, m := range file.GetMessageType() {
		if err := defineLocked(file.GetPackage(), m); err != nil {
			return err
		}
	}
	return nil
}

func addEnumLocked(scope string, e *descriptorpb.EnumDescriptorProto) {
	out := &enum{names: make(map[int32]string), numbers: make(map[string]int32)}
	for _, v := range e.GetValue() {
		if _, alias := out.names[v.GetNumber()]; !alias {
			out.names[v.GetNumber()] = v.GetName()
		}
		out.numbers[v.GetName()] = v.GetNumber()
	}
	name := qualify(scope, e.GetName())
	for number, value := range younger[name] {
		out.names[number], out.numbers[value] = value, number
	}
	shapes.enums[name] = out
}

// declareLocked creates the empty shapes that fields can point to.
func declareLocked(scope string, m *descriptorpb.DescriptorProto) {
	name := qualify(scope, m.GetName())
	shapes.messages[name] = &shape{
		name:     name,
		mapEntry: m.GetOptions().GetMapEntry(),
		byNumber: make(map[protowire.Number]*field),
		byName:   make(map[string]*field),
	}
	for _, e := range m.GetEnumType() {
		addEnumLocked(name, e)
	}
	for _, nested := range m.GetNestedType() {
		declareLocked(name, nested)
	}
}

func defineLocked(scope string, m *descriptorpb.DescriptorProto) error {
	name := qualify(scope, m.GetName())
	s := shapes.messages[name]
	for _, d := range m.GetField() {
		f := &field{
			name:     d.GetName(),
			number:   protowire.Number(d.GetNumber()),
			index:    len(s.fields),
			kind:     d.GetType(),
			repeated: d.GetLabel() == descriptorpb.FieldDescriptorProto_LABEL_REPEATED,
			required: -1,
		}
		target := strings.TrimPrefix(d.GetTypeName(), ".")
		switch f.kind {
		case descriptorpb.FieldDescriptorProto_TYPE_MESSAGE:
			if f.message = shapes.messages[target]; f.message == nil {
				return fmt.Errorf("%s.%s: message %s is not registered", name, f.name, target)
			}
		case descriptorpb.FieldDescriptorProto_TYPE_ENUM:
			if f.enum = shapes.enums[target]; f.enum == nil {
				return fmt.Errorf("%s.%s: enum %s is not registered", name, f.name, target)
			}
		case descriptorpb.FieldDescriptorProto_TYPE_GROUP:
			return fmt.Errorf("%s.%s: groups are not supported", name, f.name)
		}
		if d.GetLabel() == descriptorpb.FieldDescriptorProto_LABEL_REQUIRED {
			f.required = len(s.required)
			s.required = append(s.required, f)
		} else if f.enum != nil && !f.repeated {
			f.zeroIsUnset = plainValue(d.GetOptions())
		}
		f.listed = f.repeated && listings[name] && !d.GetOptions().GetDeprecated()
		if d.DefaultValue != nil && !d.GetOptions().GetDeprecated() {
			f.fallback = defaultJSON(f, d.GetDefaultValue())
		}
		s.fields = append(s.fields, f)
		s.byNumber[f.number] = f
		s.byName[f.name] = f
	}
	if constraints[name] {
		s.fields = append(s.fields, &field{name: "offer_constraints", index: len(s.fields), required: -1, fallback: "{}"})
	}
	if len(s.required) > 64 {
		return fmt.Errorf("%s: %d required fields, at most 64 are supported", name, len(s.required))
	}
	for _, nested := range m.GetNestedType() {
		if err := defineLocked(name, nested); err != nil {
			return err
		}
	}
	return nil
}

// plainValue reports whether gogoproto's option nullable (extension 65001) is false.
func plainValue(options *descriptorpb.FieldOptions) bool {
	const nullable = 65001
	b := []byte(options.ProtoReflect().GetUnknown())
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return false
		}
		b = b[n:]
		if number == nullable && kind == protowire.VarintType {
			v, n := protowire.ConsumeVarint(b)
			return n > 0 && v == 0
		}
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return false
		}
		b = b[n:]
	}
	return false
}

func qualify(scope, name string) string {
	if scope == "" {
		return name
	}
	return scope + "." + name
}
