package mesos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/rs/zerolog"

	"pacer/integration/mesos/election"
	"pacer/integration/mesos/link"
	"pacer/integration/mesos/master"
)

// Seat is the place of one master: its address, over the master's lives.
type Seat struct {
	cluster *Cluster
	log     zerolog.Logger

	op sync.Mutex // held while the master starts or stops

	// Guarded by Cluster.mu.
	address string
	life    *reign // nil while dead
	lived   bool   // has had a life
}

// reign is one life of a master.
type reign struct {
	master *master.Master
	member *election.Member // nil without ZooKeeper
	done   chan struct{}    // closed when nothing of it is left
}

// AddMaster starts one more master like the others. Without ZooKeeper there is one
// only.
func (c *Cluster) AddMaster() (*Seat, error) {
	c.mu.Lock()
	i := len(c.seats)
	if i > 0 && c.config.ZooKeeper == "" {
		c.mu.Unlock()
		return nil, errors.New("cluster: another master: give ZooKeeper, where they can elect one")
	}
	s := &Seat{cluster: c, log: c.config.Log.With().Int("master", i).Logger()}
	address, err := c.nthAddress(i)
	if err != nil {
		c.mu.Unlock()
		return nil, fmt.Errorf("cluster: Master.Listen: %w", err)
	}
	s.address = address
	c.seats = append(c.seats, s)
	c.mu.Unlock()
	return s, s.Start()
}

// nthAddress is where the i-th master listens: a fixed port is counted on.
func (c *Cluster) nthAddress(i int) (string, error) {
	listen := c.config.Master.Listen
	if listen == "" {
		address, _, err := c.ports.next(0)
		return address, err
	}
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return "", err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", fmt.Errorf("port %q: want a number up to 65535", text)
	}
	if port != 0 {
		port += uint64(i)
	}
	return net.JoinHostPort(host, strconv.FormatUint(port, 10)), nil
}

// join makes a member of the masters' group; info is nil for one who only watches.
func (c *Cluster) join(info *mesos.MasterInfo, log zerolog.Logger) (*election.Member, error) {
	m, err := election.Join(election.Config{
		URL: c.config.ZooKeeper, SessionTimeout: c.config.ZooKeeperSessionTimeout,
		Info: info, Replicated: c.config.PersistRegistry, Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("cluster: ZooKeeper: %w", err)
	}
	return m, nil
}

// Start starts a life of a dead master, on the same address. It returns when the
// master has been initialised; with ZooKeeper it has yet to be elected.
func (s *Seat) Start() error {
	c := s.cluster
	s.op.Lock()
	defer s.op.Unlock()
	config := c.config.Master
	config.Log = s.log
	config.Standby = c.config.ZooKeeper != ""
	config.Registry = nil
	if c.config.PersistRegistry {
		config.Registry = c.registry
	}
	if c.config.Record {
		config.Trace = c.journal.add
	}
	c.mu.Lock()
	if s.life != nil {
		c.mu.Unlock()
		return errors.New("master is running already: call Kill first")
	}
	if config.ID != "" && (len(c.seats) > 1 || s.lived) {
		config.ID = "" // another life, another id
	}
	config.Listen = s.address
	c.mu.Unlock()
	m, err := master.Start(config)
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	<-m.Ready()
	l := &reign{master: m, done: make(chan struct{})}
	if config.Standby {
		info := m.Info()
		if l.member, err = c.join(&info, s.log); err != nil {
			m.Close()
			return err
		}
	}
	c.mu.Lock()
	s.address = m.Address()
	s.life, s.lived = l, true
	c.changeLocked()
	c.mu.Unlock()
	go func() {
		defer close(l.done)
		s.follow(l)
		m.Close()
		if l.member != nil {
			l.member.Abandon()
		}
		c.mu.Lock()
		s.life = nil
		c.changeLocked()
		c.mu.Unlock()
	}()
	return nil
}

// follow does what the election says until the master's life ends. One that loses
// its leadership ends itself.
func (s *Seat) follow(l *reign) {
	m := l.master
	if l.member == nil {
		<-m.Done()
		return
	}
	led, recovered := false, false
	for {
		leader, changed := l.member.Leader()
		switch {
		case leader != nil && leader.ID == m.ID():
			if !led {
				led = true
				m.Lead()
			}
		case led:
			s.log.Error().Msg("lost leadership: the master ends, as Mesos does")
			return
		case leader == nil:
			m.SetLeader("")
		default:
			m.SetLeader(net.JoinHostPort(leader.GetAddress().GetIP(), strconv.Itoa(int(leader.GetAddress().GetPort()))))
		}
		quorate, population := s.cluster.quorate()
		if led && !recovered && quorate {
			recovered = true
			m.Recover()
		}
		select {
		case <-changed:
		case <-population:
		case <-m.Done():
			return
		}
	}
}

// quorate reports whether enough masters live, and returns a channel that is closed
// when their number changes.
func (c *Cluster) quorate() (bool, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	alive := 0
	for _, s := range c.seats {
		if s.life != nil {
			alive++
		}
	}
	return alive >= c.config.Quorum || !c.config.PersistRegistry, c.changed
}

// changeLocked tells that a master has started or ended.
func (c *Cluster) changeLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// Kill ends the master as kill -9 does. With ZooKeeper the others learn of it when its
// session expires.
func (s *Seat) Kill() {
	s.op.Lock()
	defer s.op.Unlock()
	if l := s.current(); l != nil {
		// First out of sight, so that nobody is led to a master that is ending.
		s.cluster.mu.Lock()
		s.life = nil
		s.cluster.changeLocked()
		s.cluster.mu.Unlock()
		l.master.Close()
		<-l.done
	}
}

// end ends the master politely towards ZooKeeper, where the next test may be waiting.
func (s *Seat) end() {
	if l := s.current(); l != nil && l.member != nil {
		l.member.Close()
	}
	s.Kill()
}

func (s *Seat) current() *reign {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	return s.life
}

// Master is the current life, nil while the master is dead.
func (s *Seat) Master() *master.Master {
	if l := s.current(); l != nil {
		return l.master
	}
	return nil
}

// Address is host:port of the master in all its lives.
func (s *Seat) Address() string {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	return s.address
}

// URL is the root of the master's HTTP server.
func (s *Seat) URL() string { return "http://" + s.Address() }

// Seats returns the places of all masters, dead or alive.
func (c *Cluster) Seats() []*Seat {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.seats)
}

// Leader implements link.Detector for the agents.
func (c *Cluster) Leader() (link.Master, <-chan struct{}) {
	seat, changed := c.leading()
	if seat == nil {
		return nil, changed
	}
	if m := seat.Master(); m != nil {
		return m, changed
	}
	if c.detector == nil {
		return nil, changed
	}
	return departed{}, changed
}

// departed is a leader that is dead while its session lives.
type departed struct{}

func (departed) Attach(*link.End) error { return errors.New("connection refused") }

// leading returns the place of the master that leads as far as agents know, nil for
// none, and a channel that is closed when that changes.
func (c *Cluster) leading() (*Seat, <-chan struct{}) {
	if c.detector == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.seats[0], c.changed
	}
	info, changed := c.detector.Leader()
	if info == nil {
		return nil, changed
	}
	for _, s := range c.Seats() {
		if s.Address() == net.JoinHostPort(info.GetAddress().GetIP(), strconv.Itoa(int(info.GetAddress().GetPort()))) {
			if m := s.Master(); m == nil || m.ID() == info.ID {
				return s, changed
			}
		}
	}
	return nil, changed
}

// Master is the leading master, nil when there is none.
func (c *Cluster) Master() *master.Master {
	if seat, _ := c.leading(); seat != nil {
		return seat.Master()
	}
	return nil
}

// MasterAddress is host:port of the leading master, or of the first one when nobody
// leads.
func (c *Cluster) MasterAddress() string {
	seat, _ := c.leading()
	if seat == nil {
		seat = c.Seats()[0]
	}
	return seat.Address()
}

// MasterURL is the root of that master's HTTP server.
func (c *Cluster) MasterURL() string { return "http://" + c.MasterAddress() }

// MasterURLs are the roots of all masters' HTTP servers.
func (c *Cluster) MasterURLs() []string {
	var urls []string
	for _, s := range c.Seats() {
		urls = append(urls, s.URL())
	}
	return urls
}

// AwaitLeader waits until a master has been elected and has recovered.
func (c *Cluster) AwaitLeader(ctx context.Context) (*master.Master, error) {
	const pause = 5 * time.Millisecond
	for {
		if m := c.Master(); m != nil && m.Leads() {
			return m, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("nobody leads: %w", ctx.Err())
		case <-time.After(pause):
		}
	}
}
