package healthcheck

// DefaultConcurrency is how many probes of one [Prober] run at the same time
// unless it is told otherwise.
const DefaultConcurrency = 64

// Prober performs probes. It is safe for concurrent use; one serves a process.
type Prober struct {
	slots chan struct{}
}

// NewProber returns a prober that performs at most concurrency probes at the
// same time; 0 means [DefaultConcurrency]. Commands count too.
func NewProber(concurrency int) *Prober {
	if concurrency <= 0 {
		concurrency = DefaultConcurrency
	}
	return &Prober{slots: make(chan struct{}, concurrency)}
}
