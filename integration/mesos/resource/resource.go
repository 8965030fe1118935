package resource

import (
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// Range is an interval of integers, both ends included.
type Range struct{ Begin, End uint64 }

// one is a quantity of one kind of resource with one set of qualifiers. Exactly
// one of the quantities is in use, told by kind.
type one struct {
	name   string
	kind   mesos.Value_Type
	scalar int64 // thousandths
	ranges []Range
	items  []string
	// like carries the qualifiers: reservations, allocation_info, disk and so on;
	// name and the quantities in it are not set. It is shared and never changed.
	like *mesos.Resource
	// key is equal exactly for resources that combine.
	key string
}

// Set is a collection of resources in which each key occurs once. The zero Set is
// empty.
type Set []one

// Milli converts a scalar to thousandths, rounding half away from zero.
func Milli(v float64) int64 { return int64(math.Round(v * 1000)) }

func keyOf(name string, like *mesos.Resource) string {
	role := ""
	if like.AllocationInfo != nil {
		role = like.AllocationInfo.GetRole()
	}
	plain := like.ProviderID == nil && len(like.Reservations) == 0 &&
		like.Disk == nil && like.Revocable == nil && like.Shared == nil
	if plain {
		if like.AllocationInfo == nil {
			return name
		}
		return name + "\x00" + role
	}
	// The allocation role is in the marshalled form as well.
	qualifiers, err := like.Marshal()
	if err != nil {
		// Only a required field that is nil can fail, and From has set Type.
		return name + "\x00" + like.String()
	}
	return name + "\x01" + string(qualifiers)
}

func newOne(name string, kind mesos.Value_Type, like mesos.Resource) one {
	like.Name, like.Scalar, like.Ranges, like.Set = "", nil, nil, nil
	like.Role, like.Reservation = nil, nil
	like.Type = &kind
	return one{name: name, kind: kind, like: &like, key: keyOf(name, &like)}
}

func (o one) empty() bool {
	switch o.kind {
	case mesos.SCALAR:
		return o.scalar == 0
	case mesos.RANGES:
		return len(o.ranges) == 0
	default:
		return len(o.items) == 0
	}
}

func (o one) plus(p one) one {
	switch o.kind {
	case mesos.SCALAR:
		o.scalar += p.scalar
	case mesos.RANGES:
		o.ranges = coalesce(slices.Concat(o.ranges, p.ranges))
	default:
		items := slices.Concat(o.items, p.items)
		sort.Strings(items)
		o.items = slices.Compact(items)
	}
	return o
}

func (o one) minus(p one) one {
	switch o.kind {
	case mesos.SCALAR:
		o.scalar -= p.scalar
	case mesos.RANGES:
		o.ranges = subtract(o.ranges, p.ranges)
	default:
		o.items = slices.DeleteFunc(slices.Clone(o.items), func(s string) bool { return slices.Contains(p.items, s) })
	}
	return o
}

func (o one) contains(p one) bool {
	switch o.kind {
	case mesos.SCALAR:
		return o.scalar >= p.scalar
	case mesos.RANGES:
		return len(subtract(p.ranges, o.ranges)) == 0
	default:
		return !slices.ContainsFunc(p.items, func(s string) bool { return !slices.Contains(o.items, s) })
	}
}

func coalesce(in []Range) []Range {
	slices.SortFunc(in, func(a, b Range) int {
		switch {
		case a.Begin < b.Begin:
			return -1
		case a.Begin > b.Begin:
			return 1
		}
		return 0
	})
	out := in[:0]
	for _, r := range in {
		if n := len(out); n > 0 && (out[n-1].End == math.MaxUint64 || r.Begin <= out[n-1].End+1) {
			out[n-1].End = max(out[n-1].End, r.End)
			continue
		}
		out = append(out, r)
	}
	return out
}

func subtract(from, what []Range) []Range {
	out := slices.Clone(from)
	for _, w := range what {
		var next []Range
		for _, r := range out {
			if w.End < r.Begin || w.Begin > r.End {
				next = append(next, r)
				continue
			}
			if w.Begin > r.Begin {
				next = append(next, Range{r.Begin, w.Begin - 1})
			}
			if w.End < r.End {
				next = append(next, Range{w.End + 1, r.End})
			}
		}
		out = next
	}
	return out
}

// Plus returns s and t together.
func (s Set) Plus(t Set) Set {
	out := slices.Clone(s)
	for _, o := range t {
		out = out.with(o)
	}
	return out
}

// with adds one resource to s, which it may change.
func (s Set) with(o one) Set {
	if o.empty() {
		return s
	}
	if i := s.index(o.key); i >= 0 {
		s[i] = s[i].plus(o)
		return s
	}
	return append(s, o)
}

// Minus returns s without t. What s does not have is ignored for ranges and sets;
// scalars that are used up vanish.
func (s Set) Minus(t Set) Set {
	out := slices.Clone(s)
	for _, o := range t {
		if i := out.index(o.key); i >= 0 {
			out[i] = out[i].minus(o)
			if out[i].empty() || out[i].kind == mesos.SCALAR && out[i].scalar < 0 {
				out = slices.Delete(out, i, i+1)
			}
		}
	}
	return out
}

// Contains reports whether t is part of s.
func (s Set) Contains(t Set) bool {
	for _, o := range t {
		i := s.index(o.key)
		if i < 0 || s[i].kind != o.kind || !s[i].contains(o) {
			return false
		}
	}
	return true
}

// Equal reports whether s and t are the same apart from order.
func (s Set) Equal(t Set) bool { return len(s) == len(t) && s.Contains(t) && t.Contains(s) }

// Intersects reports whether s and t name a common item of a range or set, e.g.
// the same port, whatever its qualifiers.
func (s Set) Intersects(t Set) bool {
	for _, a := range s {
		for _, b := range t {
			if a.name != b.name || a.kind != b.kind {
				continue
			}
			if a.kind == mesos.RANGES && !slices.Equal(subtract(a.ranges, b.ranges), a.ranges) {
				return true
			}
			if a.kind == mesos.SET && slices.ContainsFunc(a.items, func(i string) bool { return slices.Contains(b.items, i) }) {
				return true
			}
		}
	}
	return false
}

func (s Set) index(key string) int {
	for i := range s {
		if s[i].key == key {
			return i
		}
	}
	return -1
}

// Scalar is the sum of a scalar over all qualifiers, in thousandths.
func (s Set) Scalar(name string) int64 {
	var sum int64
	for _, o := range s {
		if o.name == name && o.kind == mesos.SCALAR {
			sum += o.scalar
		}
	}
	return sum
}

// Has reports whether s has any of the named resource.
func (s Set) Has(name string) bool {
	return slices.ContainsFunc(s, func(o one) bool { return o.name == name })
}

// Scalars returns the names of the scalar resources, sorted.
func (s Set) Scalars() []string {
	var names []string
	for _, o := range s {
		if o.kind == mesos.SCALAR {
			names = append(names, o.name)
		}
	}
	sort.Strings(names)
	return slices.Compact(names)
}

// Ranges returns the intervals of a ranges resource over all qualifiers.
func (s Set) Ranges(name string) []Range {
	var out []Range
	for _, o := range s {
		if o.name == name && o.kind == mesos.RANGES {
			out = append(out, o.ranges...)
		}
	}
	return coalesce(out)
}

// Mixed returns the name of a resource that s has both revocable and not.
func (s Set) Mixed() (name string, mixed bool) {
	for _, a := range s {
		for _, b := range s {
			if a.name == b.name && (a.like.Revocable == nil) != (b.like.Revocable == nil) {
				return a.name, true
			}
		}
	}
	return "", false
}

// Shared reports whether s has a shared resource.
func (s Set) Shared() bool {
	return slices.ContainsFunc(s, func(o one) bool { return o.like.Shared != nil })
}

// OfferedTo returns what of s a role may be offered: first its unreserved ranges
// and sets, then what is reserved to the role or an ancestor, then the unreserved
// scalars, which is the order in which Mesos' allocator builds an offer.
func (s Set) OfferedTo(role string) Set {
	var first, reserved, last Set
	for _, o := range s {
		n := len(o.like.Reservations)
		switch {
		case n > 0:
			to := o.like.Reservations[n-1].GetRole()
			if to == role || strings.HasPrefix(role, to+"/") {
				reserved = append(reserved, o)
			}
		case o.kind == mesos.SCALAR:
			last = append(last, o)
		default:
			first = append(first, o)
		}
	}
	return slices.Concat(first, reserved, last)
}

// Allocated returns s with allocation_info set to role.
func (s Set) Allocated(role string) Set {
	return s.requalify(func(like *mesos.Resource) {
		like.AllocationInfo = &mesos.Resource_AllocationInfo{Role: &role}
	})
}

// Unallocated returns s without allocation_info.
func (s Set) Unallocated() Set {
	return s.requalify(func(like *mesos.Resource) { like.AllocationInfo = nil })
}

func (s Set) requalify(change func(*mesos.Resource)) Set {
	out := make(Set, 0, len(s))
	for _, o := range s {
		like := *o.like
		change(&like)
		o.like, o.key = &like, keyOf(o.name, &like)
		out = out.with(o)
	}
	return out
}

// Roles returns the allocation roles in s in order of appearance, "" for none.
func (s Set) Roles() []string {
	var roles []string
	for _, o := range s {
		role := o.like.AllocationInfo.GetRole()
		if !slices.Contains(roles, role) {
			roles = append(roles, role)
		}
	}
	return roles
}

// String is Mesos' text: "cpus(allocated: r1):3.8; ports(allocated: r1):[31000-32000]".
func (s Set) String() string {
	if len(s) == 0 {
		return "{}"
	}
	texts := make([]string, len(s))
	for i, o := range s {
		texts[i] = o.String()
	}
	return strings.Join(texts, "; ")
}

func (o one) String() string {
	var b strings.Builder
	b.WriteString(o.name)
	if o.like.AllocationInfo != nil {
		b.WriteString("(allocated: " + o.like.AllocationInfo.GetRole() + ")")
	}
	if len(o.like.Reservations) > 0 {
		b.WriteString("(reservations: [")
		for i, r := range o.like.Reservations {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString("(" + r.GetType().String() + "," + r.GetRole())
			if r.Principal != nil {
				b.WriteString("," + r.GetPrincipal())
			}
			b.WriteByte(')')
		}
		b.WriteString("])")
	}
	if o.like.Revocable != nil {
		b.WriteString("{REV}")
	}
	if o.like.Shared != nil {
		b.WriteString("<SHARED>")
	}
	b.WriteByte(':')
	switch o.kind {
	case mesos.SCALAR:
		b.WriteString(strconv.FormatFloat(float64(o.scalar)/1000, 'f', -1, 64))
	case mesos.RANGES:
		b.WriteByte('[')
		for i, r := range o.ranges {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(strconv.FormatUint(r.Begin, 10) + "-" + strconv.FormatUint(r.End, 10))
		}
		b.WriteByte(']')
	default:
		b.WriteString("{" + strings.Join(o.items, ", ") + "}")
	}
	return b.String()
}
