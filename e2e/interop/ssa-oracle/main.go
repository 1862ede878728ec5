// The oracle compares our field ownership, step by step, with the library that Kubernetes' own API
// server uses: random schemas, random sequences of writes by several managers through the main
// endpoint and through status. After a difference both go on from the library's result, so that
// one difference does not hide the next.
//
//	ssa-oracle DRIVER [-steps N] [-seed S] [-verbose]
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"time"
)

type object = map[string]any

const (
	apiVersion = "oracle.example/v1"
	kind       = "Thing"
)

// The library stamps entries with the real time. Faked times lie far behind it, so that a real one
// is always the newest, as the faked time of the step is.
var epoch = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)

func fakeTime(step int) string {
	return epoch.Add(time.Duration(step) * time.Second).Format(time.RFC3339)
}

func clone(v any) any {
	switch v := v.(type) {
	case object:
		c := object{}
		for k, e := range v {
			c[k] = clone(e)
		}
		return c
	case []any:
		c := make([]any, len(v))
		for i := range v {
			c[i] = clone(v[i])
		}
		return c
	}
	return v
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func parse(s string) any {
	var v any
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		panic(err)
	}
	return numbers(v)
}

// numbers makes what Kubernetes' decoder makes of them.
func numbers(v any) any {
	switch v := v.(type) {
	case object:
		for k, e := range v {
			v[k] = numbers(e)
		}
	case []any:
		for i, e := range v {
			v[i] = numbers(e)
		}
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i
		}
		f, _ := v.Float64()
		return f
	}
	return v
}

type driver struct {
	in  io.WriteCloser
	out *bufio.Reader
	cmd *exec.Cmd
}

func start(path string) *driver {
	d := &driver{cmd: exec.Command(path)}
	d.cmd.Stderr = os.Stderr
	d.in, _ = d.cmd.StdinPipe()
	out, _ := d.cmd.StdoutPipe()
	d.out = bufio.NewReaderSize(out, 1<<20)
	if err := d.cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return d
}

func (d *driver) send(v any) {
	if _, err := d.in.Write([]byte(text(v) + "\n")); err != nil {
		fmt.Fprintln(os.Stderr, "driver:", err)
		os.Exit(1)
	}
}

func (d *driver) ask(v any) object {
	d.send(v)
	line, err := d.out.ReadString('\n')
	if err != nil {
		fmt.Fprintln(os.Stderr, "driver died on", text(v))
		os.Exit(1)
	}
	return parse(line).(object)
}

// step is one write: what it is and what it sends.
type step struct {
	op, manager, subresource string
	force                    bool
	live, sent               object
}

func (s *step) String() string {
	return fmt.Sprintf("%s by %s subresource=%q force=%v\n  live %s\n  sent %s", s.op, s.manager,
		s.subresource, s.force, text(s.live), text(s.sent))
}

type counts struct {
	steps, applied, conflicts, errors, differences int
	kinds                                          map[string]int
	met                                            map[string]int // situations, in results
}

// meet counts situations that a run should have met to mean anything.
func (c *counts) meet(result object) {
	for _, word := range []string{"ancient-changes", "before-first-apply", ":null",
		`"subresource":"status"`} {
		if strings.Contains(text(result), word) {
			c.met[word]++
		}
	}
	if managedFields(result) == nil {
		c.met["untracked"]++
	}
}

// keepEmpty puts our empty objects and lists where the library has null: it leaves null where pruning
// emptied something, which no schema of a custom resource would accept.
func keepEmpty(theirs, ours any) any {
	switch v := theirs.(type) {
	case nil:
		if o, ok := ours.(object); ok && len(o) == 0 {
			return o
		}
		if l, ok := ours.([]any); ok && len(l) == 0 {
			return l
		}
	case object:
		o, _ := ours.(object)
		for k := range v {
			v[k] = keepEmpty(v[k], o[k])
		}
	case []any:
		l, _ := ours.([]any)
		for i := range v {
			if i < len(l) {
				v[i] = keepEmpty(v[i], l[i])
			}
		}
	}
	return theirs
}

// compare returns what differs, or "".
func compare(ours object, theirs object, theirError error) string {
	message, failed := ours["message"].(string)
	switch {
	case theirError != nil && failed:
		if strings.HasPrefix(theirError.Error(), "Apply failed") && theirError.Error() != message {
			whole := strings.TrimSuffix(message, "...") // ours is cut where it gets too long
			if whole == message || !strings.HasPrefix(theirError.Error(), whole) {
				return "conflicts"
			}
		}
		return ""
	case theirError != nil:
		return "no error"
	case failed:
		return "error"
	}
	mine := ours["object"].(object)
	if !reflect.DeepEqual(managedFields(mine), managedFields(theirs)) {
		return "managedFields"
	}
	if !reflect.DeepEqual(mine, keepEmpty(theirs, mine)) {
		return "object"
	}
	return ""
}

func managedFields(o object) any {
	meta, _ := o["metadata"].(object)
	return meta["managedFields"]
}

func main() {
	steps := flag.Int("steps", 20000, "how many writes")
	seed := flag.Int64("seed", 1, "of the random sequence")
	verbose := flag.Bool("verbose", false, "print each difference")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: ssa-oracle [flags] DRIVER")
		os.Exit(2)
	}
	d := start(flag.Arg(0))
	total := counts{kinds: map[string]int{}, met: map[string]int{}}
	for total.steps < *steps {
		w := newWorld(rand.New(rand.NewSource(*seed)))
		*seed++
		w.run(d, &total, *verbose)
	}
	d.in.Close()
	if err := d.cmd.Wait(); err != nil {
		fmt.Fprintln(os.Stderr, "driver:", err)
		os.Exit(1)
	}
	fmt.Printf("met in results: %v\n", total.met)
	fmt.Printf("%d steps (%d applies, %d conflicts, %d other errors): %d differences %v\n",
		total.steps, total.applied, total.conflicts, total.errors, total.differences, total.kinds)
	if total.differences > 0 {
		os.Exit(1)
	}
}
