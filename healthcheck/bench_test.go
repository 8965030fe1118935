package healthcheck

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMain's child: a server in a process of its own, so that only the cost of
// the client is measured.
const envServe = "HEALTHCHECK_BENCH_SERVE"

func init() {
	if os.Getenv(envServe) == "" {
		return
	}
	l := os.NewFile(3, "listener")
	ln, err := net.FileListener(l)
	if err != nil {
		os.Exit(1)
	}
	go func() { // ends with the parent
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") }))
	os.Exit(1)
}

func serveElsewhere(b *testing.B) (port int) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envServe+"=1")
	cmd.ExtraFiles = []*os.File{f}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { stdin.Close(); cmd.Wait() })
	return l.Addr().(*net.TCPAddr).Port
}

func cpu() time.Duration {
	var self syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &self)
	return time.Duration(self.Utime.Nano() + self.Stime.Nano())
}

func childCPU() time.Duration {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_CHILDREN, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkHTTP measures what one HTTP check costs this process; budget:
// 200 us of CPU and 11 KB allocated.
func BenchmarkHTTP(b *testing.B) {
	port := serveElsewhere(b)
	b.Run("probe", func(b *testing.B) {
		c := Default()
		c.HTTP = &HTTP{Port: port, Path: "/health"}
		p := NewProber(0)
		b.ReportAllocs()
		before := cpu()
		for b.Loop() {
			if r := p.Probe(context.Background(), &c, nil, time.Now()); !r.OK() {
				b.Fatal(r.Message)
			}
		}
		b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "us-cpu/op")
	})
	// What net/http would cost.
	b.Run("transport", func(b *testing.B) {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}, Timeout: 20 * time.Second}
		url := "http://127.0.0.1:" + strconv.Itoa(port) + "/health"
		b.ReportAllocs()
		before := cpu()
		for b.Loop() {
			resp, err := client.Get(url)
			if err != nil {
				b.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "us-cpu/op")
	})
	// What Mesos' executors do.
	b.Run("curl", func(b *testing.B) {
		if _, err := exec.LookPath("curl"); err != nil {
			b.Skip("no curl here")
		}
		url := "http://127.0.0.1:" + strconv.Itoa(port) + "/health"
		before := cpu() + childCPU()
		for b.Loop() {
			err := exec.Command("curl", "-s", "-S", "-L", "-k", "-g", "-o", os.DevNull, url).Run()
			if err != nil && !errors.Is(err, syscall.ECHILD) {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64((cpu()+childCPU()-before).Microseconds())/float64(b.N), "us-cpu/op")
	})
}

func BenchmarkTCP(b *testing.B) {
	port := serveElsewhere(b)
	c := Default()
	c.TCP = &TCP{Port: port}
	p := NewProber(0)
	b.ReportAllocs()
	before := cpu()
	for b.Loop() {
		if r := p.Probe(context.Background(), &c, nil, time.Now()); !r.OK() {
			b.Fatal(r.Message)
		}
	}
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "us-cpu/op")
}

// BenchmarkThousand runs 1,000 checks at 1 s for some seconds; budget: p99
// lateness 50 ms on one core, and no growth of descriptors.
func BenchmarkThousand(b *testing.B) {
	const checks, lasts = 1000, 6 * time.Second
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	descriptors := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			b.Fatal(err)
		}
		return len(list)
	}
	port := serveElsewhere(b)
	atFirst := descriptors()
	for b.Loop() {
		p := NewProber(0)
		ctx, cancel := context.WithTimeout(context.Background(), lasts)
		var (
			wg   sync.WaitGroup
			mu   sync.Mutex
			late []time.Duration
		)
		before := cpu()
		for i := range checks {
			c := Default()
			c.Delay, c.Interval = 0, time.Second
			c.HTTP = &HTTP{Port: port}
			var due time.Time
			n := 0
			m, err := NewMonitor(p, c, Task{ID: "bench." + strconv.Itoa(i), Observe: func(r Result) {
				mu.Lock()
				defer mu.Unlock()
				if !r.OK() {
					b.Error(r.Message)
				}
				// The first pause is shortened to spread the checks.
				if n++; n > 2 {
					late = append(late, max(0, r.Started.Sub(due)))
				}
				due = r.Started.Add(r.Duration + c.Interval)
			}})
			if err != nil {
				b.Fatal(err)
			}
			wg.Go(func() { m.Run(ctx, func(Event) {}) })
		}
		wg.Wait()
		cancel()
		slices.Sort(late)
		b.ReportMetric(late[len(late)*99/100].Seconds()*1000, "ms-late-p99")
		b.ReportMetric(float64(len(late)), "probes")
		b.ReportMetric((cpu()-before).Seconds()/lasts.Seconds()*100, "%-of-core")
		b.ReportMetric(float64(descriptors()-atFirst), "descriptors-more")
	}
}
