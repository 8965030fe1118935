package artifact

import (
	"errors"
	"fmt"
	"strconv"
)

// Names of the settings.
const (
	EnvSize  = "PACER_FETCH_MIB"
	EnvCache = "PACER_FETCH_CACHE_MIB"
)

// Config is what an operator can set.
type Config struct {
	Limits Limits
	// Cache is how many bytes are kept for further tasks. Default 1 GiB.
	Cache int64
}

// ConfigFromEnv reads EnvSize, the largest file, and EnvCache, both in MiB. The
// error joins every problem.
func ConfigFromEnv(getenv func(string) string) (Config, error) {
	c := Config{Limits: DefaultLimits(), Cache: 1 << 30}
	var problems []error
	mib := func(name string, least uint64, set func(bytes int64)) {
		value := getenv(name)
		if value == "" {
			return
		}
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil || n < least {
			problems = append(problems, fmt.Errorf("%s=%q: not a number of MiB, at least %d", name, value, least))
			return
		}
		set(int64(n) << 20)
	}
	mib(EnvSize, 1, func(bytes int64) { c.Limits = LimitsFor(bytes) })
	mib(EnvCache, 0, func(bytes int64) { c.Cache = bytes })
	return c, errors.Join(problems...)
}
