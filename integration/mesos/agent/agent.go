package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/rs/zerolog"

	"pacer/integration/mesos/link"
	"pacer/integration/mesos/wire"
)

// processID is libprocess' name of the agent, the first element of its long paths.
const processID = "slave(1)"

// Keys of log fields.
const (
	keyAgent     = "agent_id"
	keyFramework = "framework_id"
	keyExecutor  = "executor_id"
	keyContainer = "container_id"
	keyTask      = "task_id"
	keyState     = "state"
	keyReason    = "reason"
	keyError     = "error"
	keyStatus    = "status"
	keyPID       = "pid"
)

// phase is where in its life the agent is.
type phase int

const (
	starting     phase = iota // not yet recovered: 503 for everything
	recovering                // SUBSCRIBE is served, the rest gets 503
	disconnected              // not registered with a master
	running
	terminating // shutting executors down, SUBSCRIBE answers SHUTDOWN
	dead        // killed
)

// Agent is one life of an emulated agent. Its methods may be called by any
// goroutine.
type Agent struct {
	cfg  Config
	line *link.Line
	log  zerolog.Logger

	listener net.Listener
	socket   net.Listener // domain socket, or nil
	servers  []*http.Server
	fetcher  *fetcher
	// hierarchies are where containers' cgroups are made; none with the posix
	// launcher.
	hierarchies []hierarchy
	started     time.Time

	ctx    context.Context // ends with this life
	cancel context.CancelFunc
	wg     sync.WaitGroup
	done   chan struct{} // closed when nothing of this life is left but executors
	once   sync.Once

	mu         sync.Mutex
	phase      phase
	info       mesos.AgentInfo
	registered bool // the master has told an id, in this life or an earlier one
	master     *link.End
	drain      *mesos.DrainConfig
	frameworks map[string]*framework
	attached   attachments
	completed  []*executor           // terminated and removed, oldest first, bounded
	unsent     []link.ExitedExecutor // ends that no master has been told
	updates    *updateManager
	faults     faults
	frozen     chan struct{} // closed by Thaw; nil when not frozen
	counters   counters
	timers     map[*time.Timer]struct{}
}

// New makes an agent that will reach its master over line. Nothing is started.
func New(cfg Config, line *link.Line) (*Agent, error) {
	if line == nil {
		return nil, errors.New("no line to the master: pass link.NewLine(...)")
	}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("agent configuration: %w", err)
	}
	a := &Agent{
		cfg:        cfg.withDerived(),
		line:       line,
		log:        cfg.Log,
		done:       make(chan struct{}),
		frameworks: make(map[string]*framework),
		attached:   make(attachments),
		timers:     make(map[*time.Timer]struct{}),
	}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.updates = newUpdateManager(a)
	a.fetcher = newFetcher(a)
	return a, nil
}

// Start listens, recovers and begins to look for a master. It returns when the
// executor API is served; registration goes on behind it.
func (a *Agent) Start() error {
	listener, err := wire.Listen(a.cfg.Addr)
	if err != nil {
		return fmt.Errorf("listen on Addr: %w", err)
	}
	a.listener = listener
	a.started = time.Now()
	host, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		listener.Close()
		return fmt.Errorf("address of the listener: %w", err)
	}
	number, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		listener.Close()
		return fmt.Errorf("port of the listener: %w", err)
	}
	a.cfg.Addr = net.JoinHostPort(host, port)
	portNumber := int32(number)
	a.info = mesos.AgentInfo{
		Hostname:   a.cfg.Hostname,
		Port:       &portNumber,
		Resources:  a.cfg.Resources,
		Attributes: a.cfg.Attributes,
		Domain:     a.cfg.Domain,
	}
	if a.cfg.DomainSocket != "" {
		if a.socket, err = listenUnix(a.cfg.DomainSocket); err != nil {
			listener.Close()
			return err
		}
	}
	a.serve()
	err = a.prepareCgroups()
	if err == nil {
		err = a.recover()
	}
	if err != nil {
		a.Kill()
		return fmt.Errorf("recover from %s: %w", a.cfg.WorkDir, err)
	}
	a.wg.Go(a.run)
	go func() {
		a.wg.Wait()
		close(a.done)
	}()
	return nil
}

// run is the life of the agent after its containers are known: the window for
// executors to come back, then the master.
func (a *Agent) run() {
	if !a.awaitExecutors() {
		return
	}
	a.masterLoop()
}

// Addr is where the agent listens, as host:port. It is known after Start.
func (a *Agent) Addr() string { return a.cfg.Addr }

// Config is the configuration with every default filled in and, after Start, the
// real address: what the next life needs.
func (a *Agent) Config() Config { return a.cfg }

// ID is the agent's id, "" before its first registration.
func (a *Agent) ID() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.info.GetID().GetValue()
}

// PID is the agent's libprocess address, slave(1)@ip:port.
func (a *Agent) PID() string { return processID + "@" + a.cfg.Addr }

// Done is closed when this life has ended: after Kill, or after Shutdown when the
// last executor is gone.
func (a *Agent) Done() <-chan struct{} { return a.done }

// Kill ends this life as SIGKILL or SIGTERM would: connections break without a
// terminating chunk, nothing is told to anybody, executors live on. It returns
// when all goroutines of the agent have ended.
func (a *Agent) Kill() {
	a.once.Do(func() {
		a.mu.Lock()
		a.phase = dead
		a.cancel()
		if a.master != nil {
			a.master.Close()
		}
		for timer := range a.timers {
			timer.Stop()
		}
		for _, f := range a.frameworks {
			for _, e := range f.executors {
				if e.stream != nil {
					e.stream.Abort()
				}
			}
		}
		a.mu.Unlock()
		a.closeServer()
		a.log.Info().Str(keyAgent, a.ID()).Msg("agent killed")
	})
	a.wg.Wait()
}

// Shutdown ends this life as SIGUSR1 does: the agent unregisters, shuts its
// executors down and forgets its id. Done is closed when they are gone.
func (a *Agent) Shutdown() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.shutdownLocked("received SIGUSR1", true)
}

// after runs f with the lock held, unless the life ends before. It returns the
// timer for those who want to stop it.
func (a *Agent) after(d time.Duration, f func()) *time.Timer {
	var timer *time.Timer
	ready := make(chan struct{})
	timer = time.AfterFunc(d, func() {
		<-ready
		a.awaitThaw()
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.timers, timer)
		if a.phase != dead {
			f()
		}
	})
	a.timers[timer] = struct{}{}
	close(ready)
	return timer
}

// stopTimer ends a timer made by after. The caller holds the lock.
func (a *Agent) stopTimerLocked(timer *time.Timer) {
	if timer != nil {
		timer.Stop()
		delete(a.timers, timer)
	}
}
