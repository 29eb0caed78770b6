package main

import (
	"sync"
)

// One request as the program saw it. How is empty while it is under way, "done" where it was
// answered to its end, else why it was not. Mark is what the client calls it.
type seen struct {
	Kind  string `json:"kind"`
	Mark  string `json:"mark"`
	Began int64  `json:"began"`
	Ended int64  `json:"ended,omitempty"`
	How   string `json:"how,omitempty"`
}

const kept = 10000

// record of all requests under way, and of the last that ended.
type record struct {
	sync.Mutex
	active map[*seen]bool
	ended  []seen
	total  int64
}

func (r *record) begin(kind, mark string) *seen {
	r.Lock()
	defer r.Unlock()
	one := &seen{Kind: kind, Mark: mark, Began: now()}
	r.active[one] = true
	r.total++
	return one
}

func (r *record) end(one *seen, why error) {
	r.Lock()
	defer r.Unlock()
	delete(r.active, one)
	one.Ended, one.How = now(), "done"
	if why != nil {
		one.How = why.Error()
	}
	if len(r.ended) == kept {
		r.ended = r.ended[1:]
	}
	r.ended = append(r.ended, *one)
}

// found is what /active tells; of a mark, only that one's.
func (r *record) found(mark string) map[string]any {
	r.Lock()
	defer r.Unlock()
	active, ended := []seen{}, []seen{}
	for one := range r.active {
		if mark == "" || one.Mark == mark {
			active = append(active, *one)
		}
	}
	for _, one := range r.ended {
		if mark == "" || one.Mark == mark {
			ended = append(ended, one)
		}
	}
	return map[string]any{"now": now(), "total": r.total, "active": active, "ended": ended}
}
