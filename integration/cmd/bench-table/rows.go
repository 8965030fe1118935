package main

// row is a line of the table: a figure of a benchmark that the design gives a
// budget to.
type row struct {
	what            string
	pkg, name, unit string
	budget, peer    string
	// factor and as show the figure in another unit; 0 and "" as measured.
	factor float64
	as     string
}

func (r row) scale() float64 {
	if r.factor == 0 {
		return 1
	}
	return r.factor
}

func (r row) shownUnit() string {
	if r.as == "" {
		return r.unit
	}
	return r.as
}

// The peers' figures were measured elsewhere on comparable machines, unless a
// row of the same run stands beside them.
var rows = []row{
	{what: "LAUNCH received -> running, warm executor, p99: no cgroups", pkg: "executor", name: "Launch/none", unit: "p99-ms", as: "ms",
		budget: "10 ms", peer: "a new executor per task: 145 ms for one, 8-11 s for 100 at once"},
	{what: "  cgroup v2", pkg: "executor", name: "Launch/v2", unit: "p99-ms", as: "ms", budget: "10 ms"},
	{what: "  cgroup v1", pkg: "executor", name: "Launch/v1", unit: "p99-ms", as: "ms", budget: "50 ms"},
	{what: "KILL -> TASK_KILLED, task that exits at once, p99", pkg: "executor", name: "Kill/none", unit: "p99-ms", as: "ms",
		budget: "20 ms", peer: "110 ms (Mesos' own), 5.0 s (allegro)"},
	{what: "500 tasks launched together, no cgroups", pkg: "executor", name: "LaunchAll/none", unit: "s/500-launches", as: "s", budget: "3 s"},
	{what: "executor PSS, ZooKeeper session open: idle", pkg: "integration/executor", name: "Memory", unit: "idle-MiB", as: "MiB", budget: "25 MiB"},
	{what: "  100 tasks checked every second", pkg: "integration/executor", name: "Memory", unit: "100-tasks-MiB", as: "MiB",
		budget: "40 MiB", peer: "one executor per task: 1.26 GB (allegro), 0.9 GB (Mesos' own)"},
	{what: "100 MB/s of output from one task: more memory", pkg: "integration/executor", name: "Output", unit: "more-MiB", as: "MiB", budget: "8 MiB"},
	{what: "100 tasks writing 1 MB/s each: CPU", pkg: "executor/logs", name: "ChattyTasks", unit: "%core", as: "% of a core", budget: "30 %"},
	{what: "start -> SUBSCRIBE, Vault and registries unreachable", pkg: "integration/executor", name: "Subscribe", unit: "ms/subscribe", as: "ms", budget: "1,000 ms"},
	{what: "CPU per HTTP check", pkg: "healthcheck", name: "HTTP/probe", unit: "us-cpu/op", as: "us",
		budget: "200 us", peer: "0.95 ms (allegro), 13 ms (Mesos forks curl)"},
	{what: "  through net/http's Transport", pkg: "healthcheck", name: "HTTP/transport", unit: "us-cpu/op", as: "us"},
	{what: "  through a forked curl", pkg: "healthcheck", name: "HTTP/curl", unit: "us-cpu/op", as: "us"},
	{what: "1,000 checks at 1 s: lateness p99", pkg: "healthcheck", name: "Thousand", unit: "ms-late-p99", as: "ms", budget: "50 ms"},
	{what: "  CPU", pkg: "healthcheck", name: "Thousand", unit: "%-of-core", as: "% of a core", budget: "100 %"},
	{what: "healthy -> visible in ZooKeeper, p99", pkg: "executor/registry/zookeeper", name: "Register/fsync", unit: "ms-found-p99", as: "ms",
		budget: "50 ms", peer: "event bus: minutes"},
	{what: "  KILL -> not visible", pkg: "executor/registry/zookeeper", name: "Register/fsync", unit: "ms-gone-p99", as: "ms", budget: "50 ms"},
	{what: "healthy -> visible in Consul, p99", pkg: "executor/registry/consul", name: "Register", unit: "ms-found-p99", as: "ms", budget: "50 ms"},
	{what: "  KILL -> not visible", pkg: "executor/registry/consul", name: "Register", unit: "ms-gone-p99", as: "ms", budget: "50 ms"},
	{what: "launch with 10 secrets and a file, added p50", pkg: "integration/secrets", name: "Launch", unit: "added-p50-ms", as: "ms", budget: "15 ms"},
	{what: "500 leases: memory", pkg: "integration/secrets", name: "Leases500", unit: "KiB", budget: "1,000 KiB"},
	{what: "Vault requests at rest", pkg: "integration/secrets", name: "Idle", unit: "requests/s", as: "/s", budget: "0"},
	{what: "API p99, 100 deployments, 1,500 apps, 10,000 tasks, 50 readers", pkg: "integration/api", name: "Deployments", unit: "api-p99-ms", as: "ms",
		budget: "50 ms", peer: "Marathon with a secrets plugin: the leader dies at about 20 deployments"},
	{what: "  event lag p99 beside it, 50 subscribers", pkg: "integration/api", name: "Deployments", unit: "event-lag-p99-ms", as: "ms", budget: "100 ms"},
	{what: "  CPU of the scheduler beside it", pkg: "integration/api", name: "Deployments", unit: "cores", budget: "1 core"},
	{what: "  until all 100 deployments have ended", pkg: "integration/api", name: "Deployments", unit: "s-until-all-ended", as: "s"},
	{what: "API p99, 25 deployments, 1,000 apps with secrets, 20 readers", pkg: "integration/api", name: "PostMortem", unit: "api-p99-ms", as: "ms",
		budget: "50 ms", peer: "Marathon's leader dies"},
	{what: "all 1,500 apps with their 10,000 tasks, one reader", pkg: "integration/api", name: "ListAll", unit: "alone-ms", as: "ms", budget: "100 ms"},
	{what: "  memory that 100 such readers at once add to the scheduler's peak", pkg: "integration/api", name: "ListAll", unit: "by-100-peak-MiB-more", as: "MiB", budget: "bounded"},
	{what: "launches to RUNNING acknowledged, 100,000 tasks, 1,000 simulated agents, synced ZooKeeper", pkg: "integration/failover", name: "Launch", unit: "running/s",
		budget: "1,500/s", peer: "Marathon's default about 3.3/s; Peloton's goal 1,000/s"},
	{what: "  scheduler CPU", pkg: "integration/failover", name: "Launch", unit: "cpu-us/launch", as: "us"},
	{what: "  bytes stored, per launch in bulk", pkg: "integration/failover", name: "Launch", unit: "stored-B/launch", as: "B", budget: "250 B"},
	{what: "  scheduler RSS at rest", pkg: "integration/failover", name: "Launch", unit: "rss-MiB", as: "MiB", budget: "158 MiB"},
	{what: "  scheduler CPU at rest", pkg: "integration/failover", name: "Launch", unit: "idle-cpu-%", as: "% of a core", budget: "2 %"},
	{what: "failover, 10,000 tasks: session ended -> first write", pkg: "integration/failover", name: "Failover", unit: "ms-to-write", as: "ms", budget: "1,000 ms"},
	{what: "  ... -> launches possible", pkg: "integration/failover", name: "Failover", unit: "ms-to-launches", as: "ms", budget: "2,000 ms"},
}
