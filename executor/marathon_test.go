package executor

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

func TestReadMarathon_TakesCmdOrArgsElseTheArguments(t *testing.T) {
	const line = `echo "$A" | sed 's/a/b/' && (exit 3) || exit 4; # done`
	argv := []string{"echo", "a"}
	for _, tc := range []struct {
		name, data string
		argv       []string
		want       []string
		err        string
	}{
		{"cmd", fmt.Sprintf(`{"id":"/shop/cart","cmd":%q,"args":null,"instances":3}`, line), argv, []string{"/bin/sh", "-c", line}, ""},
		{"args", ` {"id":"/shop/cart","cmd":null,"args":["echo","a b","*"]}`, argv, []string{"echo", "a b", "*"}, ""},
		{"neither, but arguments", `{"id":"/shop/cart"}`, argv, argv, ""},
		{"no data", "", argv, argv, ""},
		{"no command anywhere", `{"id":"/shop/cart"}`, nil, nil, "set one"},
		{"both", `{"cmd":"a","args":["b"]}`, argv, nil, "both cmd and args"},
		{"cmd is a number", `{"cmd":7}`, argv, nil, "cmd is a number: write a text"},
		{"args is a text", `{"args":"a b"}`, argv, nil, "args is a string: write a list of texts"},
		{"cut off", `{"cmd":"a"`, argv, nil, "not the definition of a Marathon app"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := testSite(t)
			s.config.Argv = tc.argv
			s.config.Environment = []string{"HOST=h", "PORT0=31000", "A=a", "PACER_ZK=zk://x", "VAULT_ADDR=x", "MESOS_EXECUTOR_ID=e", "LIBPROCESS_IP=1", "nonsense"}
			p, err := newPlan(mesos.TaskInfo{Name: "cart.shop", TaskID: mesos.TaskID{Value: "shop_cart.1"}, Data: []byte(tc.data)}, s)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("%v, want %q in it", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, p.argv); diff != "" {
				t.Error(diff)
			}
			if p.workdir != s.config.Sandbox || p.environment["MESOS_SANDBOX"] != s.config.Sandbox || p.directory == p.workdir {
				t.Errorf("starts in %s, output in %s", p.workdir, p.directory)
			}
			env := p.environment.list()
			for _, want := range []string{"HOST=h", "PORT0=31000", "A=a", "MESOS_TASK_ID=shop_cart.1"} {
				if !slices.Contains(env, want) {
					t.Errorf("no %s", want)
				}
			}
			for _, v := range env {
				if strings.HasPrefix(v, "PACER_") || strings.HasPrefix(v, "VAULT_") || strings.HasPrefix(v, "LIBPROCESS_") || strings.HasPrefix(v, "MESOS_EXECUTOR") {
					t.Errorf("a setting of the executor: %s", v)
				}
			}
		})
	}
}

func TestPlan_TasksOfOthersDoNotInheritTheEnvironment(t *testing.T) {
	s := testSite(t)
	s.config.Argv, s.config.Environment = []string{"true"}, []string{"INHERITED=1"}
	p, err := newPlan(taskInfo(t, "t.1", nil), s)
	if err != nil {
		t.Fatal(err)
	}
	if _, there := p.environment["INHERITED"]; there || p.workdir != p.directory {
		t.Errorf("%v in %s", p.environment, p.workdir)
	}
}

func TestUserOf_UnderMarathonIsTheExecutorsOwn(t *testing.T) {
	for _, tc := range []struct {
		name, own, framework, asked string
		allowed                     []string
		want                        string // empty is refused
	}{
		{"as the app says", "www", "root", "www", nil, "www"},
		{"the app says nothing", "www", "root", "", nil, "www"},
		{"root is to be listed", "root", "root", "", nil, ""},
		{"listed root", "root", "root", "", []string{"root"}, "root"},
		{"somebody else", "www", "root", "db", nil, ""},
	} {
		s := site{config: Config{OwnUser: tc.own, AllowedUsers: tc.allowed}, framework: mesos.FrameworkInfo{User: tc.framework}}
		if got, err := s.userOf(tc.asked, true); got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%s: %q, %v, want %q", tc.name, got, err, tc.want)
		}
	}
}

func TestExecutor_EndsWithItsOnlyTaskUnderMarathon(t *testing.T) {
	s := new(stage)
	staged(t, s, nil, func(t *testing.T, e *Executor) {
		app := mesos.TaskInfo{TaskID: mesos.TaskID{Value: "t.1"}, Data: []byte(`{"id":"/x","cmd":"sleep 1"}`)}
		e.Launch(app)
		synctest.Wait()
		other := app
		other.TaskID.Value = "t.2"
		e.Launch(other)
		synctest.Wait()
		if got := s.last(t); got.TaskID.Value != "t.2" || got.GetState() != mesos.TASK_FAILED || !strings.Contains(got.GetMessage(), "one task only") {
			t.Errorf("second task: %v %q", got.GetState(), got.GetMessage())
		}
		s.mu.Lock()
		proc := s.proc
		s.mu.Unlock()
		if err := proc.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if e.Snapshot().Ending == "" {
			t.Error("the executor stays")
		}
	})
}

// FuzzReadMarathon feeds any data: an error or a command, never a panic.
func FuzzReadMarathon(f *testing.F) {
	f.Add([]byte(`{"id":"/x","cmd":"true"}`))
	f.Add([]byte(`{"args":["a",null]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		task, err := readMarathon(mesos.TaskInfo{Data: data}, nil)
		if len(data) > 0 && err == nil && strings.TrimSpace(string(data)) != "" && task.Command.Shell == "" && len(task.Command.Argv) == 0 {
			t.Error("a task without a command")
		}
	})
}
