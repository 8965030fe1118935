package agent

import (
	"strconv"
	"time"
)

// units are stout's, from the largest. Weeks and days are there, too.
var units = []struct {
	size time.Duration
	name string
}{
	{7 * 24 * time.Hour, "weeks"},
	{24 * time.Hour, "days"},
	{time.Hour, "hrs"},
	{time.Minute, "mins"},
	{time.Second, "secs"},
	{time.Millisecond, "ms"},
	{time.Microsecond, "us"},
	{time.Nanosecond, "ns"},
}

// stoutDuration writes a duration as Mesos does in environment variables and
// messages: in the largest unit that fits, or in the next smaller one if only that
// makes it whole. 90 s is "90secs", 61.5 s is "1.025mins".
func stoutDuration(d time.Duration) string {
	magnitude := d
	if d < 0 {
		magnitude = -d
	}
	for i, unit := range units {
		if magnitude < unit.size && i < len(units)-1 {
			continue
		}
		if d%unit.size != 0 && i < len(units)-1 && d%units[i+1].size == 0 {
			unit = units[i+1]
		}
		value := float64(d) / float64(unit.size)
		return strconv.FormatFloat(value, 'g', 15, 64) + unit.name
	}
	return "0ns"
}
