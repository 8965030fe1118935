package conformance

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// amount is one resource as recordings write it as text: name:value{attributes}.
type amount struct {
	name       string
	value      string // a number, or ranges like [1-2,5-6]
	attributes string
}

func (a amount) String() string {
	if a.attributes == "" {
		return a.name + ":" + a.value
	}
	return a.name + ":" + a.value + "{" + a.attributes + "}"
}

// same compares scalars as numbers.
func (a amount) same(b amount) bool {
	if a.name != b.name || a.attributes != b.attributes {
		return false
	}
	return a.value == b.value || sameNumber(a.value, b.value)
}

var amountPattern = regexp.MustCompile(`^([^:{]+):([^{]*)(?:\{(.*)\})?$`)

// parseAmounts reads the textual form.
func parseAmounts(text string) ([]amount, error) {
	var amounts []amount
	for _, part := range strings.Split(text, "; ") {
		m := amountPattern.FindStringSubmatch(part)
		if m == nil {
			return nil, fmt.Errorf("resource %q is not name:value{...}", part)
		}
		amounts = append(amounts, amount{name: m[1], value: m[2], attributes: m[3]})
	}
	return amounts, nil
}

// amountsOf gives the textual form of an array of Resource.
func amountsOf(value any) ([]amount, bool) {
	array, ok := value.([]any)
	if !ok {
		return nil, false
	}
	var amounts []amount
	for _, element := range array {
		r, ok := element.(map[string]any)
		if !ok {
			return nil, false
		}
		a := amount{name: fmt.Sprint(r["name"])}
		switch {
		case r["scalar"] != nil:
			a.value = fmt.Sprint(member(r, "scalar", "value"))
		case r["ranges"] != nil:
			ranges, _ := member(r, "ranges", "range").([]any)
			var parts []string
			for _, one := range ranges {
				parts = append(parts, fmt.Sprint(member(one, "begin"), "-", member(one, "end")))
			}
			a.value = "[" + strings.Join(parts, ",") + "]"
		}
		var attributes []string
		if role := member(r, "allocation_info", "role"); role != nil {
			attributes = append(attributes, fmt.Sprint("alloc ", role))
		}
		if role := r["role"]; role != nil {
			attributes = append(attributes, fmt.Sprint("role ", role))
		}
		if reservations := r["reservations"]; reservations != nil {
			attributes = append(attributes, "reservations "+compact(reservations))
		}
		for key := range r {
			switch key {
			case "name", "type", "scalar", "ranges", "allocation_info", "role", "reservations":
			default:
				attributes = append(attributes, key+" "+compact(r[key]))
			}
		}
		a.attributes = strings.Join(attributes, ", ")
		amounts = append(amounts, a)
	}
	return amounts, true
}

// resourcesOf gives the array of Resource for the textual form.
func resourcesOf(text string) (any, error) {
	amounts, err := parseAmounts(text)
	if err != nil {
		return nil, err
	}
	resources := []any{}
	for _, a := range amounts {
		r := map[string]any{"name": a.name}
		if ranges, ok := strings.CutPrefix(a.value, "["); ok {
			var list []any
			for _, one := range strings.Split(strings.TrimSuffix(ranges, "]"), ",") {
				begin, end, _ := strings.Cut(strings.TrimSpace(one), "-")
				list = append(list, map[string]any{"begin": json.Number(begin), "end": json.Number(end)})
			}
			r["type"], r["ranges"] = "RANGES", map[string]any{"range": list}
		} else {
			r["type"], r["scalar"] = "SCALAR", map[string]any{"value": json.Number(a.value)}
		}
		attributes := a.attributes
		if rest, reservations, ok := strings.Cut(attributes, "reservations "); ok {
			attributes = strings.TrimSuffix(rest, ", ")
			if r["reservations"], err = decodeJSON([]byte(reservations)); err != nil {
				return nil, fmt.Errorf("resource %q: %w", a, err)
			}
		}
		for _, attribute := range strings.Split(attributes, ", ") {
			kind, role, _ := strings.Cut(attribute, " ")
			switch kind {
			case "":
			case "alloc":
				r["allocation_info"] = map[string]any{"role": role}
			case "role":
				r["role"] = role
			default:
				return nil, fmt.Errorf("resource %q: attribute %q is neither alloc, role nor reservations", a, attribute)
			}
		}
		resources = append(resources, r)
	}
	return resources, nil
}

// member follows keys into objects; nil when one is missing.
func member(value any, keys ...string) any {
	for _, key := range keys {
		object, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		value = object[key]
	}
	return value
}

func sameNumber(a, b string) bool {
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return errX == nil && errY == nil && x == y
}

func compact(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// zero tells whether nothing is left.
func (a amount) zero() bool { return a.value == "[]" || sameNumber(a.value, "0") }

// subtract takes pieces away from amounts and reports whether they were in them.
func subtract(from, pieces []amount) bool {
	for _, piece := range pieces {
		i := slices.IndexFunc(from, func(a amount) bool { return a.name == piece.name && a.attributes == piece.attributes })
		if i < 0 {
			return false
		}
		if from[i].value == piece.value {
			from[i].value = "0"
			continue
		}
		x, errX := strconv.ParseFloat(from[i].value, 64)
		y, errY := strconv.ParseFloat(piece.value, 64)
		if errX != nil || errY != nil || y > x {
			return false // ranges are never cut
		}
		// Mesos counts in thousandths.
		from[i].value = strconv.FormatFloat(math.Round((x-y)*1000)/1000, 'f', -1, 64)
	}
	return true
}
