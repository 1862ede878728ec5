// Judges our CEL and JSONPath by Kubernetes' own: makes random expressions, has both evaluate them,
// and compares values, and errors by their stage.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"strings"

	"github.com/google/cel-go/cel"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/client-go/util/jsonpath"
)

const self = `{"i":3,"j":-7,"z":0,"big":9223372036854775807,"d":1.5,"s":"hello","e":"","u":"héllo wörld",
"l":[1,2,3],"ls":["a","b","ab"],"m":{"a":1,"b":2},"o":{"x":{"y":"deep"},"n":7},"t":true,"f":false,
"q":"1Gi","ts":"2024-02-29T12:30:45Z","du":"1h30m","n":null,"objs":[{"name":"a","v":1},
{"name":"b","v":2}],"mixed":[1,"a",null,true,2.5]}`
const old = `{"i":3,"l":[3,2,1],"s":"old"}`

const document = `{"kind":"List","list":[{"metadata":{"name":"a","labels":{"app.io/x":"1"}},"spec":{"n":1,
"f":1.5,"t":true,"l":[1,2,3]},"conditions":[{"type":"Ready","status":"True","n":5},{"type":"Other",
"status":"False","n":7}]},{"metadata":{"name":"b"},"spec":{"n":20,"l":[]},"conditions":[]}],
"empty":[],"s":"text","i":42,"big":123456789.5,"m":[[1,2],[3]]}`

type request struct {
	Kind    string          `json:"kind"` // cel, jsonpath
	Text    string          `json:"text"`
	Lax     bool            `json:"lax,omitempty"`
	Self    json.RawMessage `json:"self"`
	OldSelf json.RawMessage `json:"oldSelf,omitempty"`
}

// An answer: a stage (compile, eval) that failed, or a value.
type answer struct {
	Failed string `json:"failed,omitempty"`
	Why    string `json:"why,omitempty"`
	Value  any    `json:"value,omitempty"`
}

func parse(text []byte) (value any) {
	if err := utiljson.Unmarshal(text, &value); err != nil {
		panic(err)
	}
	return
}

func celEnv() *cel.Env {
	set, err := environment.MustBaseEnvSet(version.MajorMinor(1, 32), true).Extend(
		environment.VersionedOptions{
			IntroducedVersion: version.MajorMinor(1, 0),
			EnvOptions: []cel.EnvOption{
				cel.Variable("self", cel.DynType), cel.Variable("oldSelf", cel.DynType)},
		})
	if err != nil {
		panic(err)
	}
	return set.StoredExpressionsEnv()
}

func judgeCEL(env *cel.Env, r request) answer {
	ast, issues := env.Compile(r.Text)
	if issues.Err() != nil {
		return answer{Failed: "compile", Why: issues.Errors()[0].Message}
	}
	program, err := env.Program(ast)
	if err != nil {
		return answer{Failed: "compile", Why: err.Error()}
	}
	value, _, err := program.Eval(map[string]any{"self": parse(r.Self), "oldSelf": parse(r.OldSelf)})
	if err != nil {
		return answer{Failed: "eval", Why: err.Error()}
	}
	switch v := value.Value().(type) {
	case bool, string:
		return answer{Value: v}
	}
	return answer{Value: "other"}
}

func judgeJSONPath(r request) (result answer) {
	defer func() {
		if recover() != nil { // kubectl's own library can fall over a filter on nothing
			result = answer{Failed: "compile"}
		}
	}()
	path := jsonpath.New("x").AllowMissingKeys(r.Lax)
	if err := path.Parse(r.Text); err != nil {
		return answer{Failed: "compile", Why: err.Error()}
	}
	var out bytes.Buffer
	if err := path.Execute(&out, parse(r.Self)); err != nil {
		return answer{Failed: "eval", Why: err.Error()}
	}
	return answer{Value: out.String()}
}

func makeCEL(r *rand.Rand) request {
	template := pick(r, []string{"<B>", "<B>", "<B>", "<S>", "string(<I>)", "string(<D>)", "<F>"})
	text := fill(r, template, 1+r.Intn(4))
	return request{Kind: "cel", Text: text, Self: []byte(self), OldSelf: []byte(old)}
}

func makeJSONPath(r *rand.Rand) request {
	steps := []string{".kind", ".list", ".metadata", ".name", ".labels", ".spec", ".n", ".l", ".i", ".m",
		".nope", ".type", ".big", ".empty", ".conditions", ".status", `.labels.app\.io/x`, "[0]", "[1]",
		"[-1]", "[*]", "[0:1]", "[1:]", "[:1]", "[::2]", "[5]", "[0,1]", "['name','labels']",
		`[?(@.type=="Ready")]`, "[?(@.n>5)]", "[?(@.spec.n<=1)]", "[?(@.spec)]", "..name", "..n"}
	starts := []string{"", "$", "@", ".list[*]", ".list[0]", ".list[*].conditions[*]"}
	path := func() string {
		text := pick(r, starts)
		for n := r.Intn(4); n > 0; n-- {
			text += pick(r, steps)
		}
		return text
	}
	text := ""
	for n := 1 + r.Intn(3); n > 0; n-- {
		text += pick(r, []string{"{" + path() + "}", "{" + path() + " }", "text ", `{"\n"}`,
			"{range .list[*]}" + "{" + path() + "},{end}"})
	}
	return request{Kind: "jsonpath", Text: text, Lax: r.Intn(2) == 0, Self: []byte(document)}
}

// Objects have no order in Go, so the pieces of a text are compared as a set.
func sameText(a, b any) bool {
	x, ok := a.(string)
	y, ok2 := b.(string)
	if !ok || !ok2 || len(x) != len(y) {
		return a == b
	}
	var count [256]int
	for i := range len(x) {
		count[x[i]]++
		count[y[i]]--
	}
	return count == [256]int{}
}

// What needs the types of literals folded first we find when the rule runs.
func agree(r request, theirs, ours answer) bool {
	switch {
	case theirs.Failed == "compile":
		return true
	case theirs.Failed != "" || ours.Failed != "":
		return (theirs.Failed != "") == (ours.Failed != "")
	case r.Kind == "jsonpath":
		return sameText(theirs.Value, ours.Value)
	}
	return theirs.Value == ours.Value
}

func main() {
	count := flag.Int("n", 20000, "how many expressions")
	seed := flag.Int64("seed", 1, "what they follow from")
	flag.Parse()
	r := rand.New(rand.NewSource(*seed))
	driver := exec.Command(flag.Arg(0))
	driver.Stderr = os.Stderr
	in, _ := driver.StdinPipe()
	out, _ := driver.StdoutPipe()
	if err := driver.Start(); err != nil {
		panic(err)
	}
	requests, answers, env := json.NewEncoder(in), bufio.NewReaderSize(out, 1<<20), celEnv()
	different, values, failed := 0, 0, 0
	for i := 0; i < *count; i++ {
		q := makeCEL(r)
		if i%4 == 0 {
			q = makeJSONPath(r)
		}
		if err := requests.Encode(q); err != nil {
			panic(err)
		}
		line, err := answers.ReadBytes('\n')
		if err == io.EOF {
			fmt.Printf("the driver ended at %s\n", q.Text)
			os.Exit(1)
		}
		var ours, theirs answer
		if err := json.Unmarshal(line, &ours); err != nil {
			panic(err)
		}
		if q.Kind == "cel" {
			theirs = judgeCEL(env, q)
		} else {
			theirs = judgeJSONPath(q)
		}
		if theirs.Failed != "" {
			failed++
		} else {
			values++
		}
		if !agree(q, theirs, ours) {
			different++
			fmt.Printf("%s\n    theirs %v\n    ours   %v\n", q.Text, theirs, ours)
		}
	}
	in.Close()
	if err := driver.Wait(); err != nil {
		fmt.Println(err)
		different++
	}
	fmt.Println(strings.TrimSpace(fmt.Sprintf("cel-oracle: %d expressions, %d values, %d errors, %d different",
		*count, values, failed, different)))
	if different > 0 {
		os.Exit(1)
	}
}
