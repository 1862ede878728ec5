// What Kubernetes' own code says of schemas, objects and CustomResourceDefinitions.
//
//	schema-oracle check FILE...   holds the expectations of api/testdata/schema.yaml and crd.yaml
//	                              against it; exits with 1 where they differ
//	schema-oracle answer          reads a JSON request a line ({"schema", "object", "old"} or
//	                              {"crd", "oldCrd"}) and answers each with a JSON line
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"sort"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"sigs.k8s.io/yaml"
)

type request struct {
	CRD    json.RawMessage `json:"crd,omitempty"`
	OldCRD json.RawMessage `json:"oldCrd,omitempty"`
	Schema json.RawMessage `json:"schema,omitempty"`
	Object json.RawMessage `json:"object,omitempty"`
	Old    json.RawMessage `json:"old,omitempty"`
}

type oneError struct {
	Type, Field, Message string
}

type answer struct {
	Failed  string      `json:"failed,omitempty"`
	Unknown []string    `json:"unknown,omitempty"`
	Object  interface{} `json:"object,omitempty"`
	Errors  []oneError  `json:"errors"`
}

func flatten(list field.ErrorList) []oneError {
	out := []oneError{}
	for _, e := range list {
		out = append(out, oneError{string(e.Type), e.Field, e.ErrorBody()})
	}
	sort.Slice(out, func(i, j int) bool {
		return out[i].Field+out[i].Message < out[j].Field+out[j].Message
	})
	return out
}

func decodeCRD(text []byte) (*apiextensions.CustomResourceDefinition, error) {
	v1 := &apiextv1.CustomResourceDefinition{}
	if err := utiljson.Unmarshal(text, v1); err != nil {
		return nil, err
	}
	apiextv1.SetDefaults_CustomResourceDefinition(v1)
	apiextv1.SetDefaults_CustomResourceDefinitionSpec(&v1.Spec)
	internal := &apiextensions.CustomResourceDefinition{}
	return internal, apiextv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(v1, internal, nil)
}

func crd(r request) answer {
	c, err := decodeCRD(r.CRD)
	if err != nil {
		return answer{Failed: err.Error()}
	}
	if r.OldCRD != nil {
		old, err := decodeCRD(r.OldCRD)
		if err != nil {
			return answer{Failed: err.Error()}
		}
		c.ObjectMeta.ResourceVersion = "1"
		old.ObjectMeta.ResourceVersion = "1"
		return answer{Errors: flatten(crdvalidation.ValidateCustomResourceDefinitionUpdate(context.TODO(), c, old))}
	}
	return answer{Errors: flatten(crdvalidation.ValidateCustomResourceDefinition(context.TODO(), c))}
}

func hasBlocking(errs field.ErrorList) bool {
	for _, err := range errs {
		switch err.Type {
		case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
			return true
		}
	}
	return false
}

func cr(r request) answer {
	v1 := &apiextv1.JSONSchemaProps{}
	if err := utiljson.Unmarshal(r.Schema, v1); err != nil {
		return answer{Failed: err.Error()}
	}
	props := &apiextensions.JSONSchemaProps{}
	if err := apiextv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v1, props, nil); err != nil {
		return answer{Failed: err.Error()}
	}
	s, err := structuralschema.NewStructural(props)
	if err != nil {
		return answer{Failed: err.Error()}
	}
	if errs := structuralschema.ValidateStructural(field.NewPath("schema"), s); len(errs) > 0 {
		return answer{Failed: "not structural", Errors: flatten(errs)}
	}
	if errs, err := defaulting.ValidateDefaults(context.TODO(), field.NewPath("schema"), s, true, true); err != nil {
		return answer{Failed: err.Error()}
	} else if len(errs) > 0 {
		return answer{Failed: "not structural", Errors: flatten(errs)}
	}
	validator, _, err := validation.NewSchemaValidator(props)
	if err != nil {
		return answer{Failed: err.Error()}
	}
	var obj, old map[string]interface{}
	if err := utiljson.Unmarshal(r.Object, &obj); err != nil {
		return answer{Failed: err.Error()}
	}
	a := answer{}
	a.Unknown = pruning.PruneWithOptions(obj, s, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	defaulting.PruneNonNullableNullsWithoutDefaults(obj, s)
	defaulting.Default(obj, s)
	a.Object = obj
	var errs field.ErrorList
	var celOptions []cel.Option
	var before interface{}
	if r.Old != nil {
		if err := utiljson.Unmarshal(r.Old, &old); err != nil {
			return answer{Failed: err.Error()}
		}
		before = old
		correlated := common.NewCorrelatedObject(obj, old, &model.Structural{Structural: s})
		celOptions = append(celOptions, cel.WithRatcheting(correlated))
		errs = append(errs, validation.ValidateCustomResourceUpdate(nil, obj, old, validator, validation.WithRatcheting(correlated))...)
	} else {
		errs = append(errs, validation.ValidateCustomResource(nil, obj, validator)...)
	}
	errs = append(errs, objectmeta.Validate(nil, obj, s, false)...)
	if len(listtype.ValidateListSetsAndMaps(nil, s, old)) == 0 {
		errs = append(errs, listtype.ValidateListSetsAndMaps(nil, s, obj)...)
	}
	if celValidator := cel.NewValidator(s, true, celconfig.PerCallLimit); celValidator != nil {
		if hasBlocking(errs) {
			errs = append(errs, field.Invalid(nil, nil, "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"))
		} else {
			more, _ := celValidator.Validate(context.TODO(), nil, s, obj, before, celconfig.RuntimeCELCostBudget, celOptions...)
			errs = append(errs, more...)
		}
	}
	a.Errors = flatten(errs)
	return a
}

// The validators can panic on what the decoder lets through.
func guarded(f func(request) answer, r request) (a answer) {
	defer func() {
		if p := recover(); p != nil {
			a = answer{Failed: fmt.Sprint("panic: ", p)}
		}
	}()
	return f(r)
}

func ask(r request) answer {
	if r.CRD != nil {
		return guarded(crd, r)
	}
	return guarded(cr, r)
}

func answerLines() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 1<<26)
	for in.Scan() {
		var r request
		a := answer{}
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			a.Failed = err.Error()
		} else {
			a = ask(r)
		}
		text, err := json.Marshal(a)
		if err != nil {
			text = []byte(fmt.Sprintf("{\"failed\":%q}", err.Error()))
		}
		fmt.Println(string(text))
	}
}

// One document of the test data.
type group struct {
	Name   string          `json:"name"`
	Schema json.RawMessage `json:"schema"`
	CRD    json.RawMessage `json:"crd"`
	Old    json.RawMessage `json:"old"`
	Errors []string        `json:"errors"`
	Cases  []struct {
		Object  map[string]interface{} `json:"object"`
		Old     map[string]interface{} `json:"old"`
		Result  map[string]interface{} `json:"result"`
		Unknown []string               `json:"unknown"`
		Errors  []string               `json:"errors"`
	} `json:"cases"`
}

var differences int

func whole(part map[string]interface{}) []byte {
	object := map[string]interface{}{"apiVersion": "a.b/v1", "kind": "K", "metadata": map[string]interface{}{"name": "x"}}
	for k, v := range part {
		object[k] = v
	}
	text, _ := json.Marshal(object)
	return text
}

// "..." in an expectation stands for any text.
func matches(pattern, text string) bool {
	head, tail, cut := strings.Cut(pattern, "...")
	return pattern == text || cut && strings.HasPrefix(text, head) && strings.HasSuffix(text, tail)
}

// A definition with one version is validated as if its schema stood outside of the version.
func normal(path string) string {
	return strings.Replace(path, "spec.validation.openAPIV3Schema", "spec.versions[0].schema.openAPIV3Schema", 1)
}

func compare(name, object string, want []string, got []oneError) {
	found := make([]bool, len(want))
	for _, e := range got {
		if e.Field == "spec.version" { // how v1beta1 named the first version
			continue
		}
		text, known := normal(e.Field)+": "+e.Message, false
		for i, pattern := range want {
			if matches(pattern, text) {
				found[i], known = true, true
			}
		}
		if !known {
			differences++
			fmt.Printf("%s %s: not expected: %s\n", name, object, text)
		}
	}
	for i := range want {
		if !found[i] {
			differences++
			fmt.Printf("%s %s: missing: %s\n", name, object, want[i])
		}
	}
}

func checkGroup(g group) {
	if g.CRD != nil {
		compare(g.Name, "", g.Errors, ask(request{CRD: g.CRD, OldCRD: g.Old}).Errors)
		return
	}
	if g.Cases == nil {
		a := ask(request{Schema: g.Schema, Object: []byte("{}")})
		if a.Failed == "" {
			a.Errors = nil
		}
		compare(g.Name, string(g.Schema), g.Errors, a.Errors)
		return
	}
	for _, c := range g.Cases {
		r := request{Schema: g.Schema, Object: whole(c.Object)}
		if c.Old != nil {
			r.Old = whole(c.Old)
		}
		if c.Result == nil {
			c.Result = c.Object
		}
		a := ask(r)
		compare(g.Name, string(r.Object), c.Errors, a.Errors)
		got, _ := json.Marshal(a.Object)
		var left, right interface{}
		_ = json.Unmarshal(got, &left)
		_ = json.Unmarshal(whole(c.Result), &right)
		if !reflect.DeepEqual(left, right) || strings.Join(c.Unknown, "\n") != strings.Join(a.Unknown, "\n") {
			differences++
			fmt.Printf("%s %s: becomes %s, drops %v\n", g.Name, r.Object, got, a.Unknown)
		}
	}
}

func checkFile(name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	for _, document := range bytes.Split(text, []byte("\n---\n"))[1:] {
		var g group
		if err := yaml.Unmarshal(document, &g); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		checkGroup(g)
	}
	return nil
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "answer" {
		answerLines()
		return
	}
	if len(os.Args) < 3 || os.Args[1] != "check" {
		fmt.Fprintln(os.Stderr, "usage: schema-oracle check FILE... | answer")
		os.Exit(2)
	}
	for _, name := range os.Args[2:] {
		if err := checkFile(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	fmt.Printf("%d differences\n", differences)
	if differences > 0 {
		os.Exit(1)
	}
}
