package main

import (
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/rs/zerolog"
)

// maxDump is far more than the stacks of an executor with a thousand tasks.
const maxDump = 16 << 20

// dumpAtQuit writes the stacks of all goroutines to the log at each SIGQUIT,
// in place of the runtime, which would end the process afterwards. The result
// ends that. Stacks have functions and addresses, no values.
func dumpAtQuit(log zerolog.Logger) (stop func()) {
	// One that comes while a dump is being written is not lost.
	quit, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(quit, syscall.SIGQUIT)
	go func() {
		defer close(done)
		for range quit {
			log.Warn().Int("goroutines", runtime.NumGoroutine()).Bytes("stack", stacks()).Msg("dump at SIGQUIT")
		}
	}()
	return func() {
		signal.Stop(quit)
		close(quit)
		<-done
	}
}

func stacks() []byte {
	for size := 1 << 20; ; size *= 2 {
		b := make([]byte, size)
		if n := runtime.Stack(b, true); n < size || size >= maxDump {
			return b[:n]
		}
	}
}
