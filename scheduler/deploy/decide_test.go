package deploy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pacer/scheduler/app"
)

func target(n int, minimum, over float64) Target {
	return Target{
		Instances: n, Checked: true, Replace: true, Selection: app.YoungestFirst,
		Upgrade: app.UpgradeStrategy{MinimumHealthCapacity: minimum, MaximumOverCapacity: over},
	}
}

func TestBounds(t *testing.T) {
	for name, test := range map[string]struct {
		target           Target
		minimum, maximum int
	}{
		"defaults":             {target(3, 1, 1), 3, 6},
		"half":                 {target(3, 0.5, 0.5), 2, 4},
		"none spare":           {target(4, 1, 0), 4, 4},
		"all may go":           {target(4, 0, 0), 0, 4},
		"decimal, not binary":  {target(20, 0.15, 0.15), 3, 23},
		"decimal, upwards":     {target(30, 0.1, 0.1), 3, 33},
		"a little more":        {target(30, 0.11, 0.11), 4, 33},
		"a single one":         {target(1, 0.5, 0.5), 1, 1},
		"nothing wanted":       {target(0, 1, 1), 0, 0},
		"ten thousand, tenths": {target(10_000, 0.9, 0.1), 9000, 11_000},
	} {
		t.Run(name, func(t *testing.T) {
			minimum, maximum := Bounds(test.target)
			if minimum != test.minimum || maximum != test.maximum {
				t.Errorf("got %d to %d, want %d to %d", minimum, maximum, test.minimum, test.maximum)
			}
		})
	}
}

// parse reads instances from words: o(ld) or n(ew), then h(ealthy), f(ailing),
// p(ending), s(taging), u(nknown), x (unreachable), i(nactive), then marks:
// k(illing), d(oomed), r(estart). IDs are the words with their position, age
// is in their order, oldest first.
func parse(words string) []Instance {
	var list []Instance
	for n, word := range strings.Fields(words) {
		i := Instance{ID: fmt.Sprint(word, n), Current: word[0] == 'n', Launched: time.Unix(int64(n), 0)}
		switch word[1] {
		case 'h':
			i.Phase, i.Health = Running, Passing
		case 'f':
			i.Phase, i.Health = Running, Failing
		case 'p':
			i.Phase = Running
		case 's':
			i.Phase = Staging
		case 'u':
			i.Phase = Unknown
		case 'x':
			i.Phase = Unreachable
		case 'i':
			i.Phase = Inactive
		}
		i.Killing = strings.Contains(word[2:], "k")
		i.Doomed = strings.Contains(word[2:], "d")
		i.Restart = strings.Contains(word[2:], "r")
		list = append(list, i)
	}
	return list
}

func TestDecide(t *testing.T) {
	keep := func(t Target) Target { t.Replace = false; return t }
	unchecked := func(t Target) Target { t.Checked = false; return t }
	oldest := func(t Target) Target { t.Selection = app.OldestFirst; return t }
	for name, test := range map[string]struct {
		target Target
		have   string
		launch int
		kill   string // words with positions
		done   bool
	}{
		"new app":                                {target(3, 1, 1), "", 3, "", false},
		"being launched":                         {target(3, 1, 1), "ns ns ns", 0, "", false},
		"all healthy":                            {target(3, 1, 1), "nh nh nh", 0, "", true},
		"one not yet healthy":                    {target(3, 1, 1), "nh nh np", 0, "", false},
		"without check running is healthy":       {unchecked(target(2, 1, 1)), "np np", 0, "", true},
		"one is missing":                         {target(3, 1, 1), "nh nh", 1, "", false},
		"scale up, no room is asked for":         {target(5, 1, 0), "nh nh", 3, "", false},
		"scale down takes the youngest":          {target(1, 1, 1), "nh nh nh", 0, "nh1 nh2", false},
		"scale down takes the oldest":            {oldest(target(1, 1, 1)), "nh nh nh", 0, "nh0 nh1", false},
		"scale down takes the useless first":     {target(2, 1, 1), "nh nf nh ns", 0, "nf1 ns3", false},
		"scale down, unreachable first":          {target(2, 1, 1), "nx nh nh", 0, "nx0", false},
		"scale to nothing":                       {target(0, 1, 1), "nh nf ns ox", 0, "nf1 nh0 ns2 ox3", false},
		"nothing is left":                        {target(0, 1, 1), "", 0, "", true},
		"still dying":                            {target(0, 1, 1), "nhk", 0, "", false},
		"dying out of reach is done":             {target(1, 1, 1), "nh nxk", 0, "", true},
		"scale down waits for the unknown":       {target(1, 1, 1), "nu nu", 0, "", false},
		"scale down, enough are known":           {target(1, 1, 1), "nh nu", 0, "nu1", false},
		"roll, room for all":                     {target(3, 1, 1), "oh oh oh", 3, "", false},
		"roll, one new is healthy":               {target(3, 1, 1), "oh oh oh nh ns ns", 0, "oh2", false},
		"roll, half may go at once":              {target(4, 0.5, 0), "oh oh oh oh", 0, "oh2 oh3", false},
		"roll, the room is used when free":       {target(4, 0.5, 0), "oh oh ohk oh", 0, "oh3", false},
		"roll, the killed have gone":             {target(4, 0.5, 0), "oh oh", 2, "", false},
		"roll with nothing to spare":             {target(2, 1, 0), "oh oh", 1, "", false},
		"roll with nothing to spare, one new":    {target(2, 1, 0), "oh oh nh", 0, "oh1", false},
		"roll with nothing to spare, then":       {target(2, 1, 0), "oh nh", 1, "", false},
		"roll a single one":                      {target(1, 0.5, 0), "oh", 1, "", false},
		"roll a single one, may be gone":         {target(1, 0, 0), "oh", 0, "oh0", false},
		"roll, failing old ones go first":        {target(3, 1, 1), "of oh oh nh ns ns", 0, "of0", false},
		"roll, failing old ones make room":       {target(2, 1, 0), "oh of", 0, "of1", false},
		"roll, new ones are not healthy":         {target(2, 1, 1), "oh oh nf np", 0, "", false},
		"roll, unreachable old ones do not stop": {target(2, 1, 0), "oh ox", 0, "ox1", false},
		"roll, after a restart":                  {target(3, 1, 0.34), "ou ou ou nu", 0, "", false},
		"roll, after a restart, all may go":      {target(3, 0, 0), "ou ou ou", 0, "ou0 ou1 ou2", false},
		"roll and scale down":                    {target(1, 1, 1), "oh oh oh", 0, "oh1 oh2", false},
		"stopped roll replaces nothing":          {keep(target(3, 1, 1)), "oh nh nh", 0, "", true},
		"doomed, replacement first":              {target(2, 1, 1), "nh nfd", 1, "", false},
		"doomed, replacement under way":          {target(2, 1, 1), "nh nfd ns", 0, "", false},
		"doomed, replacement is healthy":         {target(2, 1, 1), "nh nfd nh", 0, "nfd1", false},
		"doomed, no room":                        {target(2, 1, 0), "nh nfd", 0, "nfd1", false},
		"doomed, room for one of three":          {target(3, 1, 0.34), "nfd nfd nfd", 1, "nfd1 nfd2", false},
		"doomed, dying ones make room":           {target(2, 1, 0), "nfd nfk", 0, "nfd0", false},
		"restart wanted, replacement first":      {keep(target(1, 1, 0)), "nhr", 1, "", false},
		"restart wanted, replacement healthy":    {keep(target(1, 1, 0)), "nhr nh", 0, "nhr0", false},
		"unreachable is waited for":              {target(2, 1, 1), "nh nx", 0, "", false},
		"inactive is replaced":                   {target(2, 1, 1), "nh ni", 1, "", false},
		"inactive has been replaced":             {target(2, 1, 1), "nh ni nh", 0, "", true},
		"inactive has come back":                 {target(2, 1, 1), "nh nh nh", 0, "nh2", false},
	} {
		t.Run(name, func(t *testing.T) {
			got := Decide(test.target, parse(test.have))
			var killed []string
			for _, k := range got.Kill {
				killed = append(killed, k.ID)
			}
			slices.Sort(killed)
			if diff := cmp.Diff(strings.Fields(test.kill), append([]string{}, killed...)); diff != "" {
				t.Errorf("kills (-want +got):\n%s", diff)
			}
			if got.Launch != test.launch || got.Done != test.done {
				t.Errorf("launch %d, done %v; want %d, %v", got.Launch, got.Done, test.launch, test.done)
			}
		})
	}
}

func TestDecide_KeepsGroupsBalanced(t *testing.T) {
	list := parse("nh nh nh nh nh nh")
	for i := range list {
		list[i].Group = []string{"a", "a", "a", "a", "b", "b"}[i]
	}
	got := Decide(target(4, 1, 1), list)
	want := []Kill{{"nh3", ScaledDown}, {"nh2", ScaledDown}}
	if diff := cmp.Diff(want, got.Kill); diff != "" {
		t.Errorf("the larger group loses both (-want +got):\n%s", diff)
	}
}

// cluster is a made-up world in which decisions are carried out.
type cluster struct {
	t         *testing.T
	random    *rand.Rand
	target    Target
	instances []Instance
	truth     map[string]Instance // what a restarted scheduler does not know
	launched  int
	kind      string
}

// step carries out one decision and checks what promises say of it.
func (c *cluster) step() Decision {
	minimum, maximum := Bounds(c.target)
	d := Decide(c.target, c.instances)
	healthy, existing := 0, 0
	hasOld := false
	for _, i := range c.instances {
		real := c.real(i)
		if c.target.healthy(real) && !i.Killing {
			healthy++
		}
		reachable := real.Phase != Unreachable && real.Phase != Inactive
		if reachable || real.Phase == Unreachable && !i.Killing {
			existing++
		}
		hasOld = hasOld || (!i.Current || i.Restart) && !i.Killing
	}
	if hasOld && minimum == maximum && healthy >= minimum {
		maximum++
	}
	if d.Launch > 0 && existing+d.Launch > maximum {
		c.t.Fatalf("%s: launching %d on top of %d exceeds %d", c.kind, d.Launch, existing, maximum)
	}
	killed := 0
	for _, k := range d.Kill {
		at := slices.IndexFunc(c.instances, func(i Instance) bool { return i.ID == k.ID })
		if at < 0 || c.instances[at].Killing {
			c.t.Fatalf("%s: killed %s, which is not there or dying", c.kind, k.ID)
		}
		if c.target.healthy(c.real(c.instances[at])) {
			killed++
		}
		c.instances[at].Killing = true
	}
	if killed > 0 && healthy-killed < minimum {
		c.t.Fatalf("%s: %d of %d healthy killed, the minimum is %d\n%+v\n%+v", c.kind, killed, healthy, minimum, c.target, c.instances)
	}
	for range d.Launch {
		c.launched++
		c.instances = append(c.instances, Instance{
			ID: fmt.Sprint("i", c.launched), Phase: Staging, Current: true,
			Launched: time.Unix(int64(c.launched), 0), Group: fmt.Sprint(c.random.IntN(3)),
		})
	}
	return d
}

func (c *cluster) real(i Instance) Instance {
	if i.Phase == Unknown {
		real := c.truth[i.ID]
		real.Killing = i.Killing
		return real
	}
	return i
}

// happen changes one instance at random; bad luck is left out if kind.
func (c *cluster) happen(kindly bool) {
	if len(c.instances) == 0 {
		return
	}
	at := c.random.IntN(len(c.instances))
	i := &c.instances[at]
	if i.Phase == Unknown {
		killing := i.Killing
		*i = c.truth[i.ID]
		i.Killing = killing
		return
	}
	if i.Killing && (i.Phase == Staging || i.Phase == Running) && c.random.IntN(2) == 0 {
		c.instances = slices.Delete(c.instances, at, at+1)
		return
	}
	switch luck := c.random.IntN(12); {
	case luck < 6:
		switch i.Phase {
		case Staging:
			i.Phase = Running
		case Unreachable, Inactive:
			i.Phase = Running
		default:
			if !i.Doomed {
				i.Health = Passing
			}
		}
	case kindly:
	case luck == 6:
		c.instances = slices.Delete(c.instances, at, at+1)
	case luck == 7 && i.Phase == Running:
		i.Health = Failing
	case luck == 8 && i.Phase == Running && i.Health == Failing:
		i.Doomed = true
	case luck == 9 && i.Phase == Running:
		i.Phase = Unreachable
	case luck == 10 && i.Phase == Unreachable:
		i.Phase = Inactive
	case luck == 11 && c.random.IntN(20) == 0: // the scheduler is restarted
		for k := range c.instances {
			c.truth[c.instances[k].ID] = c.real(c.instances[k])
			c.instances[k].Phase = Unknown
		}
	}
}

// TestP8_DecideKeepsMinimumAndMaximum lives through thousands of random
// deployments with failures, lost agents and restarts of the scheduler. Its
// other half: as soon as luck is kind, every deployment comes to its end.
func TestP8_DecideKeepsMinimumAndMaximum(t *testing.T) {
	fractions := []float64{0, 0.1, 0.25, 1.0 / 3, 0.5, 0.75, 0.9, 1}
	for seed := range uint64(3000) {
		random := rand.New(rand.NewPCG(seed, 3))
		c := &cluster{
			t: t, random: random, kind: fmt.Sprint("seed ", seed), truth: make(map[string]Instance),
			target: target(random.IntN(9), fractions[random.IntN(len(fractions))], fractions[random.IntN(len(fractions))]),
		}
		c.target.Checked = random.IntN(3) > 0
		if random.IntN(2) == 0 {
			c.target.Selection = app.OldestFirst
		}
		for change := range 4 {
			for range 60 {
				c.step()
				c.happen(false)
			}
			if change == 3 {
				break
			}
			if random.IntN(3) == 0 {
				c.target.Instances = random.IntN(9)
				continue
			}
			for k := range c.instances {
				c.instances[k].Current = false
			}
			for id, i := range c.truth {
				i.Current = false
				c.truth[id] = i
			}
		}
		settled := false
		for range 5000 {
			if settled = c.step().Done; settled {
				break
			}
			c.happen(true)
		}
		if !settled {
			t.Fatalf("seed %d: never done\n%+v\n%+v", seed, c.target, c.instances)
		}
	}
}
