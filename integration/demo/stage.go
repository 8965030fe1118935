package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"pacer/integration/demo/standin"
	emulator "pacer/integration/mesos"
	"pacer/integration/mesos/master"
	"pacer/integration/zookeeper"
)

// stage is everything that the demo runs on.
type stage struct {
	p   *progress
	dir string // logs and sandboxes; kept

	cluster       *emulator.Cluster
	masterURL     string
	zookeeper     string // host:port
	zookeeperKind string
	vault         *standin.Vault
	scheduler     *exec.Cmd
	schedulerEnd  chan error // closed behind its exit
	api           *api
	resolver      *resolver
	client        *client

	background sync.WaitGroup
	cancel     context.CancelFunc // ends what runs in background
	ctx        context.Context
	closers    []func() error // in order of start

	results []result
}

// start brings everything up, in the order in which the parts need each other.
func start(ctx context.Context, p *progress, o options) (*stage, error) {
	dir, err := os.MkdirTemp("", "pacer-demo-")
	if err != nil {
		return nil, err
	}
	// Agents' sandboxes below it belong to tasks' users.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &stage{p: p, dir: dir, ctx: background, cancel: cancel}
	for _, part := range []func(context.Context, options) error{s.startZooKeeper, s.startCluster, s.startScheduler, s.connect} {
		if err := part(ctx, o); err != nil {
			return nil, errors.Join(fmt.Errorf("%w; logs are in %s", err, dir), s.stop())
		}
	}
	return s, nil
}

// stop ends everything, the last started first.
func (s *stage) stop() error {
	s.cancel()
	s.background.Wait()
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	return errors.Join(errs...)
}

func (s *stage) onStop(f func() error) { s.closers = append(s.closers, f) }

func (s *stage) startZooKeeper(ctx context.Context, o options) error {
	if o.real {
		s.p.say("start ZooKeeper from the Debian package")
		dir := filepath.Join(s.dir, "zookeeper")
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		server, err := zookeeper.Run(ctx, zookeeper.Options{Dir: dir})
		if err != nil {
			return fmt.Errorf("REAL=1: %w", err)
		}
		s.onStop(server.Close)
		s.zookeeper, s.zookeeperKind = server.Addr(), "real"
		return nil
	}
	s.p.say("start a stand-in for ZooKeeper (REAL=1 uses the real one) and one for Vault, both in this process")
	server, err := standin.StartZooKeeper()
	if err != nil {
		return err
	}
	s.onStop(func() error { server.Close(); return nil })
	s.zookeeper, s.zookeeperKind = server.Address(), "stand-in"
	return nil
}

func (s *stage) startCluster(ctx context.Context, _ options) error {
	s.p.say("start an emulated Mesos: one master, three agents")
	log, err := os.Create(filepath.Join(s.dir, "mesos.log"))
	if err != nil {
		return err
	}
	s.onStop(log.Close)
	s.cluster, err = emulator.Start(emulator.Config{
		Agents: 3,
		Dir:    filepath.Join(s.dir, "agents"),
		// A dead agent is noticed after 3 s here and after 75 s by default.
		Master: master.Config{AgentPingTimeout: time.Second, MaxAgentPingTimeouts: 3},
		Log:    zerolog.New(log).With().Timestamp().Logger(),
	})
	if err != nil {
		return err
	}
	s.onStop(s.cluster.Close)
	s.masterURL = s.cluster.MasterURL()
	return s.cluster.AwaitAgents(ctx, 3)
}

func (s *stage) startScheduler(ctx context.Context, o options) error {
	listen := "127.0.0.1:8080"
	if !o.keep {
		var err error
		if listen, err = freeAddress(); err != nil {
			return err
		}
	}
	public, err := freeAddress()
	if err != nil {
		return err
	}
	if s.vault, err = standin.StartVault("http://" + public + "/.well-known/jwks.json"); err != nil {
		return err
	}
	s.onStop(func() error { s.vault.Close(); return nil })
	password := fmt.Sprintf("%x", randomBytes(16))
	s.vault.Put(strings.TrimPrefix(appID, "/")+"/db", map[string]string{"password": password})

	me, err := user.Current()
	if err != nil {
		return err
	}
	bin, err := binaries()
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(s.dir, "scheduler.log"))
	if err != nil {
		return err
	}
	s.onStop(log.Close)
	s.scheduler = exec.Command(filepath.Join(bin, "pacer-scheduler"),
		"--master", s.masterURL,
		"--state", "bolt:"+filepath.Join(s.dir, "pacer.db"),
		"--listen", listen,
		"--public-listen", public,
		"--advertise", "http://"+public,
		"--executor", filepath.Join(bin, "pacer-executor"),
		"--user", me.Username,
		"--executor-env", "PACER_ALLOWED_USERS="+me.Username,
		"--executor-env", "PACER_ZK=zk://"+s.zookeeper+"/pacer",
		"--executor-env", "PACER_ADVERTISE_HOST=127.0.0.1",
		"--executor-env", "VAULT_ADDR="+s.vault.URL(),
	)
	s.scheduler.Stderr = log
	s.scheduler.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	s.p.say("start pacer-scheduler with its state in one file; agents fetch the executor from it")
	if err := s.scheduler.Start(); err != nil {
		return err
	}
	s.schedulerEnd = make(chan error, 1) // its exit is noted when nobody waits
	s.background.Go(func() { s.schedulerEnd <- s.scheduler.Wait(); close(s.schedulerEnd) })
	// Not with the closers: the background waits for it.
	context.AfterFunc(s.ctx, func() {
		// It may have ended already.
		_ = s.scheduler.Process.Signal(syscall.SIGTERM)
	})
	s.api = &api{url: "http://" + listen, http: http.Client{Transport: &http.Transport{}}}
	s.client = newClient(nil, fmt.Sprintf("%x", sha256.Sum256([]byte(password))))
	return s.awaitReady(ctx)
}

// awaitReady waits until the scheduler is subscribed and reconciled.
func (s *stage) awaitReady(ctx context.Context) error {
	for {
		err := s.api.do(ctx, http.MethodGet, "/ready", nil, nil)
		if err == nil {
			return nil
		}
		select {
		case exit := <-s.schedulerEnd:
			return fmt.Errorf("pacer-scheduler ended: %w", exit)
		case <-ctx.Done():
			return fmt.Errorf("pacer-scheduler is not ready: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (s *stage) connect(context.Context, options) (err error) {
	if s.resolver, err = newResolver(s.zookeeper, "/pacer/"+serviceName); err != nil {
		return err
	}
	s.client.resolver = s.resolver
	s.background.Go(func() { s.resolver.followLoop(s.ctx) })
	return nil
}

// startAsking lets the client ask from now on.
func (s *stage) startAsking() {
	s.background.Go(func() { s.client.askLoop(s.ctx) })
}

// killAgent kills an agent and every process of its sandboxes, as the end of
// the machine would.
func (s *stage) killAgent(id string) error {
	for _, node := range s.cluster.Nodes() {
		if node.ID() != id {
			continue
		}
		node.Kill()
		return killBelow(node.WorkDir())
	}
	return fmt.Errorf("there is no agent %s", id)
}

// killBelow kills the processes whose working directory is below dir, until
// there is none.
func killBelow(dir string) error {
	for range 100 {
		found := 0
		directories, err := filepath.Glob("/proc/[0-9]*/cwd")
		if err != nil {
			return err
		}
		for _, link := range directories {
			target, err := os.Readlink(link)
			if err != nil || !strings.HasPrefix(target, dir+"/") {
				continue // ended meanwhile, or another's
			}
			pid, err := strconv.Atoi(strings.Split(link, "/")[2])
			if err != nil {
				return err
			}
			found++
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill process %d of the agent: %w", pid, err)
			}
		}
		if found == 0 {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("processes below %s do not end", dir)
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}

// binaries is the directory of the three binaries: where make put them, one
// above the demo's own.
func binaries() (string, error) {
	me, err := os.Executable()
	if err != nil {
		return "", err
	}
	bin := filepath.Dir(filepath.Dir(me))
	for _, name := range []string{"pacer-executor", "pacer-scheduler", "demo/service"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			return "", fmt.Errorf("run it through make demo: %w", err)
		}
	}
	return bin, nil
}
