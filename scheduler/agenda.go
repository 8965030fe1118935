package scheduler

import (
	"container/heap"
	"time"
)

// agenda is what the core has to do later, the earliest first. Entries are
// not taken back: each looks for itself whether there is still something to do.
type agenda []entry

type entry struct {
	at time.Time
	do func()
}

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].at.Before(a[j].at) }
func (a agenda) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }

// Push is for package heap.
func (a *agenda) Push(x any) { *a = append(*a, x.(entry)) }

// Pop is for package heap.
func (a *agenda) Pop() any {
	last := len(*a) - 1
	e := (*a)[last]
	(*a)[last] = entry{}
	*a = (*a)[:last]
	return e
}

func (a *agenda) add(at time.Time, do func()) { heap.Push(a, entry{at, do}) }

// due does what is due.
func (a *agenda) due(now time.Time) {
	for len(*a) > 0 && !(*a)[0].at.After(now) {
		heap.Pop(a).(entry).do()
	}
}

// next is when something is due, or false.
func (a agenda) next() (time.Time, bool) {
	if len(a) == 0 {
		return time.Time{}, false
	}
	return a[0].at, true
}
