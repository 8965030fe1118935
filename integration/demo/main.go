// Command demo shows Pacer's main job on one machine: it starts an emulated
// Mesos cluster, Pacer's scheduler and, through it, executors; deploys a small
// service with a health check, a secret and a registration; rolls it to a new
// version while a client keeps asking it; and kills an agent. It ends with a
// summary and exit code 0, or with what went wrong and 1.
//
// KEEP=1 leaves everything running, with the API on localhost:8080, until it
// is interrupted. REAL=1 uses the ZooKeeper of the Debian package in place of
// the stand-in.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// limit bounds the whole demonstration.
const limit = 3 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	p := newProgress(os.Stdout)
	err := run(ctx, p, options{keep: os.Getenv("KEEP") == "1", real: os.Getenv("REAL") == "1"})
	stop()
	if err != nil {
		p.say("failed: %v", err)
		os.Exit(1)
	}
}

type options struct{ keep, real bool }

func run(ctx context.Context, p *progress, o options) (err error) {
	limited, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not finished within %s", limit))
	defer cancel()
	s, err := start(limited, p, o)
	if err != nil {
		return err
	}
	defer func() {
		p.say("stopping everything")
		err = errors.Join(err, s.stop())
	}()
	if err := s.demonstrate(limited); err != nil {
		if cause := context.Cause(limited); cause != nil {
			err = fmt.Errorf("%w (%w)", err, cause)
		}
		return fmt.Errorf("%w; logs are in %s", err, s.dir)
	}
	s.summarise()
	if o.keep {
		p.say("everything keeps running; the API is at %s; stop it with Ctrl-C", s.api.url)
		<-ctx.Done()
	}
	return nil
}
