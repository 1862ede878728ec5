package main

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var workloads = schema.GroupVersion{Group: "flops.dev", Version: "v1alpha1"}

// Workload has those fields of a Workload that the benchmark sets: less to decode and to keep than all of them.
type Workload struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec   WorkloadSpec   `json:"spec"`
	Status WorkloadStatus `json:"status"`
}

type WorkloadSpec struct {
	Suspend      bool              `json:"suspend"`
	Orchestrator string            `json:"orchestrator"`
	Role         string            `json:"role"`
	Process      Process           `json:"process"`
	Args         []string          `json:"args"`
	Env          []EnvironmentItem `json:"env"`
	Instances    int32             `json:"instances"`
	GracePeriod  string            `json:"gracePeriod"`
}

type Process struct {
	Program string `json:"program"`
}

type EnvironmentItem struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type WorkloadStatus struct {
	ObservedGeneration int64              `json:"observedGeneration"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
}

type WorkloadList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []Workload `json:"items"`
}

func (w *Workload) deepCopy() *Workload {
	out := *w
	w.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Spec.Args = slices.Clone(w.Spec.Args)
	out.Spec.Env = slices.Clone(w.Spec.Env)
	out.Status.Conditions = slices.Clone(w.Status.Conditions)
	return &out
}

func (w *Workload) DeepCopyObject() runtime.Object { return w.deepCopy() }

func (l *WorkloadList) DeepCopyObject() runtime.Object {
	out := *l
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	out.Items = slices.Clone(l.Items)
	for i := range out.Items {
		out.Items[i] = *l.Items[i].deepCopy()
	}
	return &out
}

func addWorkloads(scheme *runtime.Scheme) {
	scheme.AddKnownTypes(workloads, &Workload{}, &WorkloadList{})
	metav1.AddToGroupVersion(scheme, workloads)
}
