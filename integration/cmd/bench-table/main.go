// Command bench-table reads the output of go test -bench on standard input,
// passes it on to standard error as it comes, and ends with a table of what
// was measured beside the budgets of Pacer's design and, where there is a
// peer, what it is compared with. It judges nothing: a speed is never a
// failure, since machines differ. It fails when a benchmark did.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
)

func main() {
	failed, err := run(os.Stdin, os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-table:", err)
	}
	if failed || err != nil {
		os.Exit(1)
	}
}

// result is one figure of one benchmark.
type result struct {
	pkg, name, unit string
	value           float64
}

func run(in io.Reader, out, progress io.Writer) (failed bool, err error) {
	results, failed, err := read(in, progress)
	if err != nil {
		return failed, err
	}
	return failed, print(out, results)
}

// read parses the output of go test (format of golang.org/design/14313).
func read(in io.Reader, progress io.Writer) (results []result, failed bool, err error) {
	pkg, name := "", ""
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		line := lines.Text()
		fmt.Fprintln(progress, line)
		if rest, ok := strings.CutPrefix(line, "pkg: "); ok {
			pkg = strings.TrimPrefix(rest, "pacer/")
			continue
		}
		if strings.HasPrefix(line, "FAIL") || strings.HasPrefix(line, "--- FAIL") {
			failed = true
		}
		fields := strings.Fields(line)
		if len(fields) > 0 && strings.HasPrefix(fields[0], "Benchmark") {
			// A log line of the benchmark may come between its name and figures.
			name = benchmarkName(fields[0])
			fields = fields[1:]
		}
		if name == "" || len(fields) < 3 {
			continue
		}
		if _, err := strconv.Atoi(fields[0]); err != nil {
			continue
		}
		for i := 1; i+1 < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				break
			}
			results = append(results, result{pkg, name, fields[i+1], value})
		}
		name = ""
	}
	return results, failed, lines.Err()
}

// benchmarkName is without "Benchmark" and without the number of processors.
func benchmarkName(field string) string {
	name := strings.TrimPrefix(field, "Benchmark")
	if i := strings.LastIndexByte(name, '-'); i > 0 {
		if _, err := strconv.Atoi(name[i+1:]); err == nil {
			name = name[:i]
		}
	}
	return name
}

// print writes the rows that have a budget or a peer first.
func print(out io.Writer, results []result) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nwhat\tmeasured\tbudget\tfor comparison")
	used := map[int]bool{}
	for _, row := range rows {
		var figures []string
		for i, r := range results {
			if r.pkg == row.pkg && r.name == row.name && r.unit == row.unit {
				figures = append(figures, format(r.value*row.scale())+" "+row.shownUnit())
				used[i] = true
			}
		}
		if len(figures) == 0 {
			figures = []string{"not measured here"}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", row.what, strings.Join(figures, ", "), row.budget, row.peer)
	}
	fmt.Fprintln(w, "\t\t\t")
	fmt.Fprintln(w, "other figures\t\t\t")
	for i, r := range results {
		if !used[i] && r.unit != "B/op" && r.unit != "allocs/op" {
			fmt.Fprintf(w, "%s %s\t%s %s\t\t\n", r.pkg, r.name, format(r.value), r.unit)
		}
	}
	return w.Flush()
}

func format(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}
