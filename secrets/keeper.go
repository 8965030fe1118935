package secrets

import (
	"container/heap"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"hash/fnv"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Keys of log lines.
const (
	keyTask  = "task_id"
	keyPath  = "path"
	keyNames = "names"
	keyError = "error"
	keyEnds  = "ends"
)

// workers is how many renewals are under way together; the others wait in the
// order in which they are due.
const workers = 4

// attempt bounds one renewal, Vault's outages included: after it the next one
// has its turn.
const attempt = 15 * time.Second

// loginAttempt bounds making another login, which may have to ask others for a
// token: many tasks that wait for one must not keep the workers from leases.
const loginAttempt = 5 * time.Second

// Pauses between attempts that failed.
const (
	firstRetry = time.Second
	maxRetry   = time.Minute
)

// Keeper gives tasks their secrets, and keeps what was given for a time: it
// renews leases and logins when two thirds of their time have passed, reads
// static secrets again where a task asks for it, and tells tasks of changes.
//
// All tasks share one heap of timers, and no goroutine runs while nothing is
// due. A failure harms nobody: what a task has stays as it is, and the attempt
// is repeated.
type Keeper struct {
	source Source
	log    zerolog.Logger
	key    [sha256.Size]byte // of digests, made anew for each keeper

	// ctx is what all grants live in, leaving what ends them lives in.
	ctx     context.Context
	cancel  context.CancelFunc
	leaving context.Context
	leave   context.CancelFunc

	mu      sync.Mutex
	due     timers
	alarm   *time.Timer
	working int
	closed  bool
	work    sync.WaitGroup
}

// NewKeeper makes a keeper of what source gives. Close it.
func NewKeeper(source Source, log zerolog.Logger) *Keeper {
	k := &Keeper{source: source, log: log}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	k.leaving, k.leave = context.WithCancel(context.Background())
	// It never fails: see its documentation.
	_, _ = rand.Read(k.key[:])
	return k
}

// logoutTimeout bounds giving a login back beside a task's launch.
const logoutTimeout = 5 * time.Second

// logOut closes a grant that nothing is kept for. The launch, or the kill that
// has ended it, does not wait for that.
func (k *Keeper) logOut(g *Grant) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return
	}
	k.work.Go(func() {
		ctx, cancel := context.WithTimeout(k.leaving, logoutTimeout)
		defer cancel()
		// A login that cannot be given back ends by itself with its period, and
		// the source has logged why.
		_ = g.Close(ctx)
	})
}

// Close ends all keeping, and waits for what is under way until ctx ends. What
// grants still hold is given back by [Grant.Close] only.
func (k *Keeper) Close(ctx context.Context) error {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	k.closed = true
	k.cancel()
	k.due = nil
	if k.alarm != nil {
		k.alarm.Stop()
	}
	k.mu.Unlock()
	defer context.AfterFunc(ctx, k.leave)()
	k.work.Wait()
	k.leave()
	return nil
}

// digest tells values apart without keeping them.
type digest [sha256.Size]byte

func (k *Keeper) digest(v Value) (d digest) {
	h := hmac.New(sha256.New, k.key[:])
	// A hash never fails to write.
	_, _ = h.Write(v.Secret.Reveal())
	h.Sum(d[:0])
	return d
}

// timer is something to do for a grant at a moment.
type timer struct {
	at    time.Time
	grant *Grant
	run   func(context.Context)
	index int // in the heap, -1 outside
	// running says that run has not returned; next is when it shall run again
	// after that, if at all.
	running bool
	next    time.Time
}

// timers is a heap, the next one first.
type timers []*timer

func (h timers) Len() int           { return len(h) }
func (h timers) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timers) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements [heap.Interface].
func (h *timers) Push(x any) {
	t := x.(*timer)
	t.index = len(*h)
	*h = append(*h, t)
}

// Pop implements [heap.Interface].
func (h *timers) Pop() any {
	last := (*h)[len(*h)-1]
	(*h)[len(*h)-1] = nil
	*h = (*h)[:len(*h)-1]
	last.index = -1
	return last
}

// schedule puts something on the heap. The caller holds the mutex.
func (k *Keeper) schedule(g *Grant, at time.Time, run func(context.Context)) *timer {
	t := &timer{grant: g, run: run, index: -1}
	g.timers = append(g.timers, t)
	k.at(t, at)
	return t
}

// at moves a timer. The caller holds the mutex.
func (k *Keeper) at(t *timer, at time.Time) {
	if k.closed || t.grant.closed {
		return
	}
	if t.running {
		if t.next.IsZero() || at.Before(t.next) {
			t.next = at
		}
		return
	}
	t.at = at
	if t.index >= 0 {
		heap.Fix(&k.due, t.index)
	} else {
		heap.Push(&k.due, t)
	}
	k.setAlarm()
}

// setAlarm waits for the first timer, if somebody is free to work on it. The
// caller holds the mutex.
func (k *Keeper) setAlarm() {
	if len(k.due) == 0 || k.working >= workers || k.closed {
		return
	}
	pause := max(time.Until(k.due[0].at), 0)
	if k.alarm == nil {
		k.alarm = time.AfterFunc(pause, k.ring)
	} else {
		k.alarm.Reset(pause)
	}
}

// ring works on what is due until nothing is.
func (k *Keeper) ring() {
	k.mu.Lock()
	if k.closed || k.working >= workers {
		k.mu.Unlock()
		return
	}
	k.working++
	k.work.Add(1)
	defer k.work.Done()
	for !k.closed && len(k.due) > 0 && !k.due[0].at.After(time.Now()) {
		t := heap.Pop(&k.due).(*timer)
		t.running, t.next = true, time.Time{}
		t.grant.work.Add(1)
		k.setAlarm() // somebody else may begin with the next one
		k.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.grant.ctx, attempt)
		t.run(ctx)
		cancel()
		t.grant.work.Done()
		k.mu.Lock()
		t.running = false
		if !t.next.IsZero() {
			k.at(t, t.next)
		}
	}
	k.working--
	k.setAlarm()
	k.mu.Unlock()
}

// keep begins to keep a grant.
func (k *Keeper) keep(g *Grant) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, l := range g.leases {
		l.timer = k.schedule(g, g.turn(l), func(ctx context.Context) { k.renew(ctx, g, l) })
	}
	if login := g.session.Login(); login.Duration > 0 {
		var t *timer
		t = k.schedule(g, time.Now().Add(g.share(login.Duration, "")), func(ctx context.Context) { k.renewLogin(ctx, g, t) })
	}
	if g.declared.Refresh > 0 {
		var t *timer
		t = k.schedule(g, time.Now().Add(spread(g.declared.Refresh, g.id.Task)), func(ctx context.Context) { k.refresh(ctx, g, t) })
	}
}

// drop ends the keeping of a grant; false when that has been done before.
func (k *Keeper) drop(g *Grant) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if g.closed {
		return false
	}
	g.closed = true
	for _, t := range g.timers {
		if t.index >= 0 {
			heap.Remove(&k.due, t.index)
		}
	}
	return true
}

// spread varies a duration by up to a tenth, always the same way for the same
// seed, so that tasks that started together do not come back together.
func spread(d time.Duration, seed string) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(seed)) // a hash never fails to write
	const steps = 2001
	return d + d/10*time.Duration(int(h.Sum32()%steps)-steps/2)/(steps/2)
}

// share is the part of a duration after which it is renewed: two thirds.
func (g *Grant) share(d time.Duration, seed string) time.Duration {
	return max(spread(d*2/3, g.id.Task+" "+seed), time.Millisecond)
}

// turn is when a lease is to be renewed that was given just now.
func (g *Grant) turn(l *lease) time.Time {
	return time.Now().Add(g.share(l.Duration, l.where.path))
}

// retry is when to try again what has to be done before a moment: ever sooner
// towards it, and patiently after it.
func retry(before time.Time) time.Time {
	pause := maxRetry
	if left := time.Until(before); left > 0 {
		pause = min(max(left/4, firstRetry), maxRetry)
	}
	return time.Now().Add(pause)
}

// renew prolongs a lease, or replaces it where that has no future.
func (k *Keeper) renew(ctx context.Context, g *Grant, l *lease) {
	k.mu.Lock()
	current, replace := l.Lease, l.replace || !l.Renewable || time.Now().After(l.ends)
	k.mu.Unlock()
	if replace {
		k.replace(ctx, g, l)
		return
	}
	renewed, err := g.session.Renew(ctx, current)
	if errors.Is(err, ErrEnded) {
		k.note(g, l, err).Msg("lease has ended")
		k.mu.Lock()
		l.ends = time.Now()
		k.mu.Unlock()
		k.replace(ctx, g, l)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		k.note(g, l, err).Msg("lease not renewed; the task keeps it until it ends, and the renewal is repeated")
		k.at(l.timer, retry(l.ends))
		return
	}
	l.Lease, l.ends = renewed, time.Now().Add(renewed.Duration)
	// The engine gives less than before when the longest life of a lease comes
	// near.
	l.replace = !renewed.Renewable || renewed.Duration <= l.first/2
	k.at(l.timer, g.turn(l))
}

// replace reads anew what a lease was given for.
func (k *Keeper) replace(ctx context.Context, g *Grant, l *lease) {
	if !g.wants(l.where) {
		k.log.Warn().Str(keyTask, g.id.Task).Str(keyPath, l.where.path).Time(keyEnds, l.ends).
			Msg("lease cannot be prolonged; the task keeps what it has, because its labels ask for nothing else (" + LabelOnChange + ")")
		return
	}
	found, err := read(ctx, g.session, []location{l.where})
	if err == nil {
		content := found[l.where]
		err = g.took(found)
		k.mu.Lock()
		// The old lease may still be in use: it ends by itself, or with the
		// login.
		l.Lease, l.first, l.ends = content.Lease, content.Lease.Duration, time.Now().Add(content.Lease.Duration)
		l.replace = false
		k.mu.Unlock()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		k.note(g, l, err).Msg("nothing new in the place of a lease; the task keeps what it has, and the reading is repeated")
		k.at(l.timer, retry(l.ends))
		return
	}
	if l.ID != "" {
		k.at(l.timer, g.turn(l))
	}
}

// note begins a line about a lease.
func (k *Keeper) note(g *Grant, l *lease, err error) *zerolog.Event {
	return k.log.Warn().Str(keyTask, g.id.Task).Str(keyPath, l.where.path).Time(keyEnds, l.ends).AnErr(keyError, err)
}

// renewLogin prolongs the login, or makes another; what was given to the old
// one is then read anew.
func (k *Keeper) renewLogin(ctx context.Context, g *Grant, t *timer) {
	before := g.session.Login()
	ends := time.Now().Add(before.Duration)
	renewed, err := before, error(nil)
	if before.Renewable {
		renewed, err = g.session.RenewLogin(ctx)
	}
	again := err == nil && before.Renewable
	if !before.Renewable || errors.Is(err, ErrEnded) {
		k.log.Warn().Str(keyTask, g.id.Task).AnErr(keyError, err).Msg("login has ended or cannot be renewed; another is made")
		asking, cancel := context.WithTimeout(ctx, loginAttempt)
		err = g.session.Relogin(asking)
		cancel()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		k.log.Warn().Str(keyTask, g.id.Task).Time(keyEnds, ends).AnErr(keyError, err).Msg("login not renewed; it is tried again")
		k.at(t, retry(ends))
		return
	}
	if !again {
		renewed = g.session.Login()
		for _, l := range g.leases {
			l.replace = true
			k.at(l.timer, time.Now())
		}
	}
	if renewed.Duration > 0 {
		k.at(t, time.Now().Add(g.share(renewed.Duration, "")))
	}
}

// refresh reads a task's static secrets again.
func (k *Keeper) refresh(ctx context.Context, g *Grant, t *timer) {
	k.mu.Lock()
	leased := map[location]bool{}
	for _, l := range g.leases {
		leased[l.where] = true
	}
	k.mu.Unlock()
	var static []location
	for _, where := range g.declared.locations() {
		// A version never changes.
		if !leased[where] && where.version == 0 {
			static = append(static, where)
		}
	}
	found, err := read(ctx, g.session, static)
	if err == nil {
		err = g.took(found)
	}
	if err != nil {
		k.log.Warn().Str(keyTask, g.id.Task).AnErr(keyError, err).Msg("secrets not refreshed; the task keeps what it has")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.at(t, time.Now().Add(spread(g.declared.Refresh, g.id.Task)))
}
