package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A server may remember all that happened since its first write, so that no
// revision is too old yet.  To see what it says of one that is, there must be
// enough changes for it to forget the first.
const (
	expireWriters = 16
	expireRound   = 2000 // changes between two looks
	expireLimit   = 100 * time.Second
)

// firstIsExpired tells whether a watch from revision 1 is refused as too old.
func (j *judge) firstIsExpired(ctx context.Context) (bool, error) {
	seconds := int64(1)
	w, err := j.objects.Resource(widgets).Namespace("default").Watch(ctx, metav1.ListOptions{
		ResourceVersion: "1", TimeoutSeconds: &seconds,
	})
	if err != nil {
		return apierrors.IsResourceExpired(err), ignoreExpired(err)
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		if apierrors.IsResourceExpired(apierrors.FromObject(e.Object)) {
			return true, nil
		}
	}
	return false, nil
}

func ignoreExpired(err error) error {
	if apierrors.IsResourceExpired(err) {
		return nil
	}
	return err
}

// expireFirst changes a config map until revision 1 is forgotten; a server that
// has forgotten it already is left alone.
func (j *judge) expireFirst(ctx context.Context) error {
	const name = "churn"
	maps := j.typed.CoreV1().ConfigMaps(j.namespace)
	until, changes := time.Now().Add(expireLimit), 0
	for {
		expired, err := j.firstIsExpired(ctx)
		if err != nil || expired {
			return err
		}
		if time.Now().After(until) {
			return fmt.Errorf("revision 1 is still known after %d changes", changes)
		}
		if changes == 0 {
			if _, err = maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
				return err
			}
		}
		var group sync.WaitGroup
		failures := make([]error, expireWriters)
		for k := range failures {
			group.Go(func() {
				for i := k; i < expireRound && failures[k] == nil; i += expireWriters {
					patch := fmt.Appendf(nil, `{"data":{"n":"%d"}}`, changes+i)
					_, failures[k] = maps.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
				}
			})
		}
		group.Wait()
		if err = errors.Join(failures...); err != nil {
			return err
		}
		changes += expireRound
	}
}

// expireOnly is for judges in other languages: it does the above and nothing else.
func (j *judge) expireOnly() error {
	ctx, cancel := context.WithTimeout(context.Background(), expireLimit+30*time.Second)
	defer cancel()
	namespaces := j.typed.CoreV1().Namespaces()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: j.namespace}}
	if _, err := namespaces.Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		return err
	}
	return errors.Join(j.expireFirst(ctx), namespaces.Delete(ctx, j.namespace, metav1.DeleteOptions{}))
}
