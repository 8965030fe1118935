package conformance

import (
	"errors"
	"fmt"
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"

	emulator "pacer/integration/mesos"
	"pacer/integration/zookeeper"
)

// ensemble is the ZooKeeper server of a scenario.
type ensemble struct {
	server *zookeeper.Server
	client *zk.Conn
}

var zookeeperActions = []action{
	{regexp.MustCompile(`^ZooKeeper 3\.8 runs on 127\.0\.0\.1:<zk-port>, empty$`), startZooKeeper},
	{regexp.MustCompile(`^leader loses ZooKeeper: SIGSTOP of ZooKeeper`), pauseZooKeeper},
	{regexp.MustCompile(`^the scheduler stream ended (\S+) s after ZooKeeper stopped$`), checkAbdication},
	{regexp.MustCompile(`: children of (\S+)$`), checkChildren},
	{regexp.MustCompile(`^znode (\S+): ephemeral=(true|false), acl=(\[.*\]), (\d+) bytes$`), checkZnode},
	{regexp.MustCompile(`^requests to the non-leading (master-\d)$`), talkTo},
	{regexp.MustCompile(`^(master-\d) up: (true|false), (master-\d) up: (true|false)$`), checkUp},
}

func startZooKeeper(p *player, _ *line, _ []string) error {
	server := zookeeper.Start(p.t, zookeeper.Options{})
	p.zookeeper = &ensemble{server: server, client: server.Connect(p.t)}
	defer p.bound.commit()
	return p.bound.bind("zk-port", "zk-port", portOf(server.Addr()))
}

// electingConfig is the configuration of masters that elect their leader. Their ports
// are fixed, so that clients can ask before they are there.
func (p *player) electingConfig(config *emulator.Config) error {
	port, err := consecutivePorts(3)
	if err != nil {
		return err
	}
	config.Master.Listen = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	return nil
}

// consecutivePorts finds n free ports in a row. They have five digits.
func consecutivePorts(n int) (int, error) {
	const first, last = 34000, 60000
	for base := first + int(time.Now().UnixNano()%(last-first)); base < last; base++ {
		free := true
		for i := range n {
			listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(base+i)))
			if err != nil {
				free = false
				break
			}
			listener.Close()
		}
		if free {
			return base, nil
		}
	}
	return 0, errors.New("no free ports in a row")
}

func pauseZooKeeper(p *player, l *line, _ []string) error {
	p.pause(l)
	p.zookeeper.client.Close()
	if err := p.zookeeper.server.Pause(); err != nil {
		return err
	}
	p.t.Cleanup(func() {
		if err := p.zookeeper.server.Resume(); err != nil {
			p.t.Error(err)
		}
	})
	return nil
}

// checkAbdication compares how long a leader without ZooKeeper stays: a session's
// timeout of 10 s and as much as it takes to notice.
func checkAbdication(p *player, l *line, groups []string) error {
	recorded, err := time.ParseDuration(groups[1] + "s")
	if err != nil {
		return err
	}
	if got := p.done.Sub(p.actedAt); got < 10*time.Second || got > recorded*3/2 {
		return fmt.Errorf("got %v", got.Round(10*time.Millisecond))
	}
	return nil
}

func checkChildren(p *player, l *line, groups []string) error {
	p.settle(l)
	children, _, err := p.zookeeper.client.Children(groups[1])
	if err != nil {
		return err
	}
	var want []string
	list, _ := l.Body.([]any)
	for _, name := range list {
		want = append(want, fmt.Sprint(name))
	}
	slices.Sort(want)
	slices.Sort(children)
	if !slices.Equal(want, children) {
		return fmt.Errorf("recorded %v, got %v", want, children)
	}
	return nil
}

func checkZnode(p *player, l *line, groups []string) error {
	data, stat, err := p.zookeeper.client.Get(groups[1])
	if err != nil {
		return err
	}
	acl, _, err := p.zookeeper.client.GetACL(groups[1])
	if err != nil {
		return err
	}
	got := fmt.Sprintf("znode %s: ephemeral=%v, acl=%v, %d bytes", groups[1], stat.EphemeralOwner != 0, acl, len(data))
	if got != l.Note {
		return fmt.Errorf("got %s", got)
	}
	if l.HasText {
		if d := p.bound.match(l.Text, string(data), p.accept(l)); d != nil {
			return d
		}
	}
	return nil
}

func talkTo(p *player, _ *line, groups []string) error {
	p.target = groups[1]
	return nil
}

func checkUp(p *player, l *line, groups []string) error {
	p.settle(l)
	for i := 1; i < len(groups); i += 2 {
		connection, err := net.Dial("tcp", p.seat(groups[i]).Address())
		if err == nil {
			connection.Close()
		}
		if up := err == nil; strconv.FormatBool(up) != groups[i+1] {
			return fmt.Errorf("%s up: %v", groups[i], up)
		}
	}
	return nil
}

// seat is the master that the recording gives a name.
func (p *player) seat(name string) *emulator.Seat {
	i, err := strconv.Atoi(strings.TrimPrefix(name, "master-"))
	if seats := p.cluster.Seats(); err == nil && i <= len(seats) {
		return seats[i-1]
	}
	return nil
}

// pollMaster is the SUBSCRIBE that is repeated at one master before the answers of a
// line. Where the note says so, it asks for what the master cannot give, and thus
// changes nothing.
func (p *player) pollMaster(l *line) error {
	name := regexp.MustCompile(`master-\d`).FindString(l.Note)
	address := p.masterListen
	if p.cluster != nil {
		address = p.seat(name).Address()
	}
	body := p.subscription("")
	accept := "application/json"
	if strings.Contains(l.Note, "406") || strings.Contains(l.Note, "unusable Accept") {
		accept = "text/html"
	} else {
		body = p.subscription("<framework-1>")
	}
	return p.startPollWith(l, body, address, accept)
}

// needsZooKeeper says why masters cannot elect one here, "" if they can.
func needsZooKeeper() string {
	if err := zookeeper.Installed(); err != nil {
		return err.Error()
	}
	return ""
}

// zookeeperURL is the value of a master's flag.
func (p *player) zookeeperURL(value string) string {
	return p.zookeeper.server.URL("/" + path.Base(value))
}
