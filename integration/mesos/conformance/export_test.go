package conformance

// The assertions are tests of a package of their own, which uses the same executors and
// the same count.
type (
	Order   = order
	Message = message
	Request = exchangeRequest
	Item    = exchangeItem
)

// ProbeName is what argv[0] of an executor has to end with.
const ProbeName = probeName

// How streams end.
const (
	EndProper = endProper
	EndBroken = endBroken
)

// Exchange makes a request.
var Exchange = exchange

// Pass, Skip and Pend count one assertion each; the latter two say why.
var (
	Pass = tally.pass
	Skip = tally.skip
	Pend = tally.pend
)
