package master

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	gogo "github.com/gogo/protobuf/proto"
	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/integration/mesos/resource"
)

// sameExecutor is Mesos' equality of ExecutorInfo: labels and
// shutdown_grace_period are not looked at, environment and URIs are sets, a URI's
// cache flag does not count.
func sameExecutor(known *executor, e *mesos.ExecutorInfo, resources resource.Set) bool {
	k := &known.info
	return k.Type == e.Type &&
		k.ExecutorID == e.ExecutorID &&
		bytes.Equal(k.Data, e.Data) &&
		known.resources.Equal(resources) &&
		sameCommand(k.Command, e.Command) &&
		k.FrameworkID.GetValue() == e.FrameworkID.GetValue() &&
		k.GetName() == e.GetName() &&
		k.GetSource() == e.GetSource() &&
		sameMessage(k.Container, e.Container) &&
		sameMessage(k.Discovery, e.Discovery)
}

func sameCommand(a, b *mesos.CommandInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.GetValue() == b.GetValue() &&
		a.GetUser() == b.GetUser() &&
		a.GetShell() == b.GetShell() &&
		slices.Equal(a.Arguments, b.Arguments) &&
		sameSet(variables(a), variables(b)) &&
		sameSet(uris(a), uris(b))
}

func variables(c *mesos.CommandInfo) []string {
	if c.Environment == nil {
		return nil
	}
	var out []string
	for _, v := range c.Environment.Variables {
		out = append(out, fmt.Sprintf("%s %q=%q %v", v.GetType(), v.Name, v.GetValue(), v.Secret))
	}
	return out
}

func uris(c *mesos.CommandInfo) []string {
	var out []string
	for _, u := range c.URIs {
		out = append(out, fmt.Sprintf("%q %t %t %q", u.Value, u.GetExecutable(), u.GetExtract(), u.GetOutputFile()))
	}
	return out
}

func sameSet(a, b []string) bool {
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

func sameMessage[T any](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	// Both come from the same decoder, so equal messages have equal text.
	left, errA := json.Marshal(a)
	right, errB := json.Marshal(b)
	return errA == nil && errB == nil && bytes.Equal(left, right)
}

// executorText is protobuf's text form of an ExecutorInfo, as Mesos prints it in
// the mismatch message.
func executorText(e *mesos.ExecutorInfo, untyped bool) string {
	var b strings.Builder
	writeText(&b, reflect.ValueOf(e).Elem(), "", untyped)
	return b.String()
}

// writeText writes the set fields of a generated message in the order of their
// numbers. skipType leaves out a field named "type", which mesos-go cannot hold as
// unset.
func writeText(b *strings.Builder, message reflect.Value, indent string, skipType bool) {
	properties := gogo.GetProperties(message.Type())
	order := make([]int, 0, len(properties.Prop))
	for i, p := range properties.Prop {
		if p.Tag > 0 {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(x, y int) int { return properties.Prop[x].Tag - properties.Prop[y].Tag })
	for _, i := range order {
		p := properties.Prop[i]
		if skipType && p.OrigName == "type" {
			continue
		}
		field := message.Field(i)
		switch {
		case field.Kind() == reflect.Pointer:
			if !field.IsNil() {
				writeField(b, p.OrigName, field.Elem(), indent)
			}
		case field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.Uint8:
			if !field.IsNil() {
				writeField(b, p.OrigName, field, indent)
			}
		case field.Kind() == reflect.Slice:
			for j := range field.Len() {
				element := field.Index(j)
				if element.Kind() == reflect.Pointer {
					element = element.Elem()
				}
				writeField(b, p.OrigName, element, indent)
			}
		case field.Kind() == reflect.Map:
			// No message in an ExecutorInfo that Mesos prints here has one.
		default:
			writeField(b, p.OrigName, field, indent)
		}
	}
}

func writeField(b *strings.Builder, name string, value reflect.Value, indent string) {
	b.WriteString(indent + name)
	if value.Kind() == reflect.Struct {
		b.WriteString(" {\n")
		writeText(b, value, indent+"  ", false)
		b.WriteString(indent + "}\n")
		return
	}
	b.WriteString(": ")
	switch {
	case value.Kind() == reflect.String:
		b.WriteString(quoteC(value.String()))
	case value.Kind() == reflect.Slice:
		b.WriteString(quoteC(string(value.Bytes())))
	case value.Kind() == reflect.Float64:
		b.WriteString(strconv.FormatFloat(value.Float(), 'g', 15, 64))
	default:
		// Enums have a String method, integers and booleans print as they are.
		fmt.Fprint(b, value.Interface())
	}
	b.WriteString("\n")
}

// quoteC quotes as protobuf's text form does.
func quoteC(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch ch := s[i]; {
		case ch == '"' || ch == '\'' || ch == '\\':
			b.WriteByte('\\')
			b.WriteByte(ch)
		case ch == '\n':
			b.WriteString(`\n`)
		case ch == '\r':
			b.WriteString(`\r`)
		case ch == '\t':
			b.WriteString(`\t`)
		case ch < 0x20 || ch >= 0x7f:
			fmt.Fprintf(&b, `\%03o`, ch)
		default:
			b.WriteByte(ch)
		}
	}
	b.WriteByte('"')
	return b.String()
}
