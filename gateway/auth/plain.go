package auth

// plainMember is one member of a plain object: a string without escapes, or a
// whole number.
type plainMember struct {
	name, text []byte
	number     int64
	isText     bool
}

// maxPlainDigits keeps numbers within an int64.
const maxPlainDigits = 15

// plainObject calls take for each member of a flat JSON object. Its values are plain ASCII strings and whole numbers
// from 0 up. It returns false for any other text, or as soon as take does; then a JSON library must decide. If take
// refuses repeated names, plainObject accepts nothing that a strict library would refuse.
func plainObject(text []byte, take func(m plainMember) bool) bool {
	s := plainScanner{text: text}
	s.space()
	if !s.eat('{') {
		return false
	}
	s.space()
	if s.eat('}') {
		return s.ended()
	}
	for {
		m, ok := s.member()
		if !ok || !take(m) {
			return false
		}
		s.space()
		if s.eat('}') {
			return s.ended()
		}
		if !s.eat(',') {
			return false
		}
		s.space()
	}
}

type plainScanner struct {
	text []byte
	at   int
}

func (s *plainScanner) member() (m plainMember, ok bool) {
	if m.name, ok = s.quoted(); !ok {
		return m, false
	}
	s.space()
	if !s.eat(':') {
		return m, false
	}
	s.space()
	if m.text, m.isText = s.quoted(); m.isText {
		return m, true
	}
	m.number, ok = s.whole()
	return m, ok
}

// quoted reads a string of printable ASCII without escapes.
func (s *plainScanner) quoted() ([]byte, bool) {
	if s.at >= len(s.text) || s.text[s.at] != '"' {
		return nil, false
	}
	for i := s.at + 1; i < len(s.text); i++ {
		switch b := s.text[i]; {
		case b == '"':
			inner := s.text[s.at+1 : i]
			s.at = i + 1
			return inner, true
		case b == '\\' || b < ' ' || b > '~':
			return nil, false
		}
	}
	return nil, false
}

// whole reads a whole number without a leading zero.
func (s *plainScanner) whole() (n int64, ok bool) {
	from := s.at
	for s.at < len(s.text) && s.text[s.at]-'0' <= 9 {
		n = 10*n + int64(s.text[s.at]-'0')
		s.at++
	}
	digits := s.at - from
	return n, digits == 1 || digits > 1 && digits <= maxPlainDigits && s.text[from] != '0'
}

func (s *plainScanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return
		}
	}
}

func (s *plainScanner) eat(b byte) bool {
	if s.at < len(s.text) && s.text[s.at] == b {
		s.at++
		return true
	}
	return false
}

func (s *plainScanner) ended() bool {
	s.space()
	return s.at == len(s.text)
}
