package main

import (
	"fmt"
	"io"
	"math/rand"
)

// All content is one endless text, of which every request takes another part: an answer that is cut,
// shifted or another one's is told from the right one. The period is prime.
var text = made()

const period = 65521

func made() []byte {
	text := make([]byte, 2*period)
	rand.New(rand.NewSource(5)).Read(text[:period])
	copy(text[period:], text[:period])
	return text
}

// content reads `left` bytes of the text from `at` on.
type content struct {
	at, left int64
}

func (c *content) Read(into []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	from := c.at % period
	if int64(len(into)) > c.left {
		into = into[:c.left]
	}
	size := copy(into, text[from:from+period])
	c.at += int64(size)
	c.left -= int64(size)
	return size, nil
}

// same reads `from` to its end; an error where that is not `size` bytes of the text from `at` on.
func same(from io.Reader, at, size int64) error {
	got := make([]byte, 32<<10)
	for seen := int64(0); ; {
		count, err := from.Read(got)
		part := content{at + seen, int64(count)}
		if wrong := differs(got[:count], &part); wrong >= 0 {
			return fmt.Errorf("byte %d is a wrong one", seen+int64(wrong))
		}
		seen += int64(count)
		if seen > size {
			return fmt.Errorf("more than %d bytes", size)
		}
		if err == io.EOF && seen == size {
			return nil
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", seen, size, err)
		}
	}
}

func differs(got []byte, wanted *content) int {
	part := make([]byte, len(got))
	io.ReadFull(wanted, part)
	for place := range got {
		if got[place] != part[place] {
			return place
		}
	}
	return -1
}
