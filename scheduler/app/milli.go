package app

import "strconv"

// Milli is an amount of a resource in thousandths, the precision that Mesos
// itself keeps. Sums of it are exact, which sums of Mesos' doubles are not.
type Milli int64

// Unit is one whole: a core, a MiB, a GPU.
const Unit Milli = 1000

// Float64 is the amount as Mesos and JSON write it.
func (m Milli) Float64() float64 { return float64(m) / 1000 }

// String is the amount as JSON writes it, e.g. "0.25".
func (m Milli) String() string { return strconv.FormatFloat(m.Float64(), 'f', -1, 64) }
