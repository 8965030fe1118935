package master

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/integration/mesos/link"
	"pacer/integration/mesos/wire"
)

// ErrClosed is returned by a master whose life has ended.
var ErrClosed = errors.New("master is closed")

// Master is one life of a master process. Make one with Start and end it with
// Close.
type Master struct {
	config  Config
	info    mesos.MasterInfo
	started time.Time
	server  *http.Server

	ctx     context.Context
	cancel  context.CancelFunc
	tasks   sync.WaitGroup // everything that Close waits for
	aborted chan struct{}
	abort   sync.Once
	ready   chan struct{} // closed when routes exist

	mu     sync.Mutex // guards what follows and all of core
	core   *core
	closed bool
	timers map[*time.Timer]struct{}
	led    bool          // Lead has been called
	leader string        // host:port, "" when nobody leads
	frozen chan struct{} // closed by Thaw; nil when not frozen
}

// Start opens the port and begins to serve, as the leading master unless the
// configuration says Standby.
func Start(config Config) (*Master, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("master: %w", err)
	}
	config = config.withDefaults()
	if config.ID == "" {
		config.ID = uuid.NewString()
	}
	if config.Registry == nil {
		config.Registry = NewRegistry()
	}
	listener, err := wire.Listen(config.Listen)
	if err != nil {
		return nil, fmt.Errorf("master: %w", err)
	}
	info, err := masterInfo(config, listener.Addr().String())
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	m := &Master{
		config:  config,
		info:    info,
		started: time.Now(),
		aborted: make(chan struct{}),
		ready:   make(chan struct{}),
		timers:  make(map[*time.Timer]struct{}),
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.core = newCore(m)
	m.server = &http.Server{
		Handler:           m.handler(),
		ReadHeaderTimeout: 30 * time.Second,
	}
	m.tasks.Go(func() {
		// Always http.ErrServerClosed: the listener is closed by Close alone.
		_ = m.server.Serve(listener)
	})
	if config.InitializationTime > 0 {
		m.mu.Lock()
		m.after(config.InitializationTime, func() { close(m.ready) })
		m.mu.Unlock()
	} else {
		close(m.ready)
	}
	if !config.Standby {
		m.Lead()
		m.Recover()
	}
	return m, nil
}

// quotaV2 is MasterInfo.Capability.QUOTA_V2, younger than mesos-go's definitions.
const quotaV2 mesos.MasterInfo_Capability_Type = 3

func masterInfo(config Config, address string) (mesos.MasterInfo, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return mesos.MasterInfo{}, fmt.Errorf("master: address %q: %w", address, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return mesos.MasterInfo{}, fmt.Errorf("master: address %q: %w", address, err)
	}
	number := uint32(port)
	pid := "master@" + address
	info := mesos.MasterInfo{
		ID:       config.ID,
		Port:     &number,
		PID:      &pid,
		Hostname: &host,
		Version:  &config.Version,
		Address:  &mesos.Address{Hostname: &host, IP: &host, Port: int32(port)},
		Domain:   config.Domain,
		Capabilities: []mesos.MasterInfo_Capability{
			{Type: mesos.MasterInfo_Capability_AGENT_UPDATE},
			{Type: mesos.MasterInfo_Capability_AGENT_DRAINING},
			{Type: quotaV2},
		},
	}
	if ip := net.ParseIP(host).To4(); ip != nil {
		// Network byte order held in an integer, read on a little endian machine.
		info.IP = binary.LittleEndian.Uint32(ip)
	}
	return info, nil
}

// ID is the prefix of all ids that this master gives.
func (m *Master) ID() string { return m.config.ID }

// Address is host:port of the HTTP server.
func (m *Master) Address() string { return strings.TrimPrefix(m.info.GetPID(), "master@") }

// URL is the root of the HTTP server, without a trailing slash.
func (m *Master) URL() string { return "http://" + m.Address() }

// Info is what the master says of itself, as it is published for election.
func (m *Master) Info() mesos.MasterInfo { return m.info }

// Aborted is closed when the master has ended itself, which a scheduler can bring
// about. Close is still to be called.
func (m *Master) Aborted() <-chan struct{} { return m.aborted }

// ActiveAgents is how many agents are registered, connected and offered.
func (m *Master) ActiveAgents() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, a := range m.core.agents {
		if a.active {
			n++
		}
	}
	return n
}

// SetLeader says who leads: this master when it is its own Address, another one to
// which requests are then redirected, or nobody ("").
func (m *Master) SetLeader(address string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leader = address
}

// Lead makes a standby the leader. It answers 503 until Recover is called and
// Config.RecoveryTime has passed.
func (m *Master) Lead() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.led {
		m.led, m.leader, m.core.recovering = true, m.Address(), true
	}
}

// Recover lets an elected master read its registry and begin to work. It is called
// once, after Lead.
func (m *Master) Recover() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.core.recover()
}

// Leads reports whether the master has been elected and has recovered.
func (m *Master) Leads() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.led && !m.closed && !m.core.recovering
}

// Ready is closed when the master has been initialised and answers more than 404.
func (m *Master) Ready() <-chan struct{} { return m.ready }

// Done is closed when the master's life has ended.
func (m *Master) Done() <-chan struct{} { return m.ctx.Done() }

// Freeze stops the master as SIGSTOP does: connections stay open, nothing is
// answered or sent.
func (m *Master) Freeze() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.frozen == nil {
		m.frozen = make(chan struct{})
	}
}

// Thaw ends a Freeze.
func (m *Master) Thaw() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.frozen != nil {
		close(m.frozen)
		m.frozen = nil
	}
}

// enter takes the lock for one action. It waits while the master is frozen and
// fails when it is closed; on success the caller has to unlock m.mu.
func (m *Master) enter() error {
	for {
		m.mu.Lock()
		switch {
		case m.closed:
			m.mu.Unlock()
			return ErrClosed
		case m.frozen == nil:
			return nil
		}
		thawed := m.frozen
		m.mu.Unlock()
		select {
		case <-thawed:
		case <-m.ctx.Done():
			return ErrClosed
		}
	}
}

// Attach implements link.Master.
func (m *Master) Attach(end *link.End) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	m.tasks.Go(func() { m.serveAgent(end) })
	return nil
}

// serveAgent handles one connection of an agent until it breaks.
func (m *Master) serveAgent(end *link.End) {
	defer end.Close()
	for {
		message, err := end.Next(m.ctx)
		if m.enter() != nil {
			return
		}
		if err != nil {
			m.core.linkBroken(end)
			m.mu.Unlock()
			return
		}
		m.core.fromAgent(end, message)
		m.mu.Unlock()
	}
}

// after runs action with the lock held once d has passed, unless the master is
// closed or the returned function was called before.
func (m *Master) after(d time.Duration, action func()) (cancel func()) {
	if m.closed {
		return func() {}
	}
	canceled := false
	var timer *time.Timer
	m.tasks.Add(1)
	timer = time.AfterFunc(max(d, 0), func() {
		defer m.tasks.Done()
		if m.enter() != nil {
			return
		}
		defer m.mu.Unlock()
		delete(m.timers, timer)
		if !canceled {
			action()
		}
	})
	m.timers[timer] = struct{}{}
	return func() {
		canceled = true
		if _, pending := m.timers[timer]; pending {
			delete(m.timers, timer)
			if timer.Stop() {
				m.tasks.Done()
			}
		}
	}
}

// abortLocked ends the master from inside, as a failed CHECK does.
func (m *Master) abortLocked() {
	m.abort.Do(func() {
		m.dieLocked()
		close(m.aborted)
	})
}

// dieLocked breaks everything that holds the outside.
func (m *Master) dieLocked() {
	if m.closed {
		return
	}
	m.closed = true
	m.cancel()
	for timer := range m.timers {
		if timer.Stop() {
			m.tasks.Done()
		}
	}
	clear(m.timers)
	m.core.abortStreams()
	// Connections break without an answer; handlers end because their requests'
	// contexts do.
	_ = m.server.Close()
}

// Close ends the master as a kill does and returns when nothing of it runs any
// more.
func (m *Master) Close() {
	m.mu.Lock()
	m.dieLocked()
	m.mu.Unlock()
	m.tasks.Wait()
}
