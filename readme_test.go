package diskimage_test

import (
	"go/ast"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// pages are the files whose claims are held against the tree.
var pages = []string{"README.md", "SECURITY.md", "CHANGELOG.md", "testdata/README.md"}

// testFunctions returns the tests, fuzz targets and examples of the module,
// as "package.Name": a package's name is its folder's, less "internal/".
func testFunctions(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, f := range tree(t).files {
		if !f.test {
			continue
		}
		for _, decl := range f.ast.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && testName.MatchString(fn.Name.Name) {
				names[packageName(f.dir)+"."+fn.Name.Name] = true
			}
		}
	}
	return names
}

// packageName returns what the pages call the package in a folder.
func packageName(dir string) string {
	if dir == "." {
		return path.Base(module)
	}
	return strings.TrimPrefix(dir, "internal/")
}

var (
	testName  = regexp.MustCompile(`^(Test|Fuzz|Example|Benchmark)([A-Z_]\w*)?$`)
	testClaim = regexp.MustCompile("`([\\w/]+)\\.((?:Test|Fuzz|Example|Benchmark)\\w*)`")
	fileClaim = regexp.MustCompile("`(?:\\./)?((?:examples|scripts|internal|testdata|\\.ci|\\.github)/[\\w./-]+|[\\w./-]+\\.(?:go|md|sh))`")
	codeBlock = regexp.MustCompile("(?s)<!-- from (\\S+) -->\n```go\n(.*?)```\n")
	linkClaim = regexp.MustCompile(`\]\(([^)#:]+)\)`)
)

// TestPagesNameWhatExists holds that each test, file and link that a page
// names is there.
func TestPagesNameWhatExists(t *testing.T) {
	tests := testFunctions(t)
	for _, page := range pages {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range testClaim.FindAllStringSubmatch(string(text), -1) {
			require.Contains(t, tests, m[1]+"."+m[2], "%s names it", page)
		}
		for _, re := range []*regexp.Regexp{fileClaim, linkClaim} {
			for _, m := range re.FindAllStringSubmatch(string(text), -1) {
				name := filepath.FromSlash(m[1])
				if testClaim.MatchString("`" + m[1] + "`") {
					continue
				}
				_, here := os.Stat(filepath.Join(filepath.Dir(page), name))
				_, top := os.Stat(name)
				require.True(t, here == nil || top == nil, "%s names %s, which is not there", page, m[1])
			}
		}
	}
}

// TestREADMECodeIsTested holds that the Go code in README.md is, but for its
// indentation, that of a file which is compiled and run.
func TestREADMECodeIsTested(t *testing.T) {
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	blocks := codeBlock.FindAllStringSubmatch(string(text), -1)
	require.Len(t, blocks, strings.Count(string(text), "```go\n"), "a block of Go does not say which file it is from")
	require.NotEmpty(t, blocks)
	for _, m := range blocks {
		file, err := os.ReadFile(filepath.FromSlash(m[1]))
		require.NoError(t, err)
		require.Contains(t, unindent(string(file)), unindent(m[2]), "%s has another text", m[1])
	}
}

// unindent removes the white space at the start of each line.
func unindent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.TrimLeft(line, " \t"))
	}
	return b.String()
}

// TestREADMESupportTable holds that the support table is the one that the
// capabilities make, each with tests that exist. To write it anew:
//
//	DISKIMAGE_UPDATE=1 go test . -run TestREADMESupportTable
func TestREADMESupportTable(t *testing.T) {
	tests := testFunctions(t)
	var table strings.Builder
	table.WriteString("| | read | write | shown by |\n|---|---|---|---|\n")
	for _, c := range capabilities {
		require.NotEmpty(t, c.tests, c.what)
		for _, name := range c.tests {
			require.Contains(t, tests, name, "it is to show: %s", c.what)
		}
		shown := "`" + strings.Join(c.tests, "` `") + "`"
		table.WriteString("| " + strings.Join([]string{c.what, c.read, c.write, shown}, " | ") + " |\n")
	}
	const begin, end = "<!-- support:begin -->\n", "<!-- support:end -->"
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	head, rest, ok := strings.Cut(string(text), begin)
	require.True(t, ok)
	got, tail, ok := strings.Cut(rest, end)
	require.True(t, ok)
	if os.Getenv("DISKIMAGE_UPDATE") == "1" {
		require.NoError(t, os.WriteFile("README.md", []byte(head+begin+table.String()+end+tail), 0o666))
		got = table.String()
	}
	require.Equal(t, table.String(), got)
}

// TestSupportTableIsWhole holds that every format and every image in testdata
// has a line in the support table, and no line names an image in vain.
func TestSupportTableIsWhole(t *testing.T) {
	for _, f := range tree(t).files {
		require.True(t, room(f.dir) != "format" || slices.ContainsFunc(capabilities, func(c capability) bool {
			return strings.HasPrefix(c.what, f.dir)
		}), "no capability of %s", f.dir)
	}

	entries, err := os.ReadDir("testdata")
	require.NoError(t, err)
	unused := map[string]bool{}
	for _, c := range capabilities {
		for _, pattern := range c.images {
			unused[pattern] = true
		}
	}
	for _, entry := range entries {
		name := strings.TrimSuffix(entry.Name(), ".gz")
		if ext := path.Ext(name); ext != ".qcow2" && ext != ".raw" && ext != ".bin" && ext != ".vmdk" && ext != ".vhd" {
			continue
		}
		named := false
		for _, c := range capabilities {
			for _, pattern := range c.images {
				ok, err := path.Match(pattern, name)
				require.NoError(t, err)
				if ok {
					named = true
					delete(unused, pattern)
				}
			}
		}
		require.True(t, named, "no capability of testdata/%s", entry.Name())
	}
	require.Empty(t, unused)
}
