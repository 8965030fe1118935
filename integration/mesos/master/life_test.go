package master_test

import (
	"testing"

	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
)

func teardown() *scheduler.Call { return &scheduler.Call{Type: scheduler.Call_TEARDOWN} }

var _ = testing.Short
