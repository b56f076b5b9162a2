//! Pictures as SVG files: panels in rows and columns, each with axes, a legend and its series.

use std::ops::Range;
use std::path::Path;

use plotters::coord::types::RangedCoordf64;
use plotters::element::DashedPathElement;
use plotters::prelude::*;

/// Colours that the colour-blind tell apart, dark enough for white paper (Okabe and Ito 2008, without the yellow).
pub const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(60, 60, 60),
];

pub const BLUE: usize = 0;
pub const VERMILION: usize = 1;
pub const GREEN: usize = 2;
pub const BLACK_LINE: usize = 6;

/// More points than this in one series make a picture slow and no clearer.
const POINTS_MAX: usize = 4_000;

const FONT: &str = "sans-serif";

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Line,
    Dashes,
    /// A line with a dot at each point.
    DottedLine,
    Dots,
    Crosses,
}

#[derive(Debug, Clone)]
pub struct Series {
    pub name: String,
    /// Of [`COLOURS`].
    pub colour: usize,
    pub mark: Mark,
    pub points: Vec<(f64, f64)>,
}

impl Series {
    pub fn new(name: &str, colour: usize, mark: Mark, points: Vec<(f64, f64)>) -> Series {
        Series { name: name.to_owned(), colour: colour % COLOURS.len(), mark, points }
    }

    /// What keeps its value until the next point, instead of going there on a slope.
    pub fn in_steps(mut self) -> Series {
        let last_y = |index: usize, points: &[(f64, f64)]| points[index.saturating_sub(1)].1;
        let points = &self.points;
        self.points = (0..points.len())
            .flat_map(|index| [(points[index].0, last_y(index, points)), points[index]])
            .collect();
        self
    }

    /// Every so many of its points that few enough are left: of lines the largest of each, for peaks are what one looks for.
    fn thinned(&self) -> Vec<(f64, f64)> {
        let each = self.points.len().div_ceil(POINTS_MAX).max(1);
        let largest = |chunk: &[(f64, f64)]| {
            chunk.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)).expect("not empty")
        };
        self.points.chunks(each).map(largest).collect()
    }
}

/// One coordinate system.
#[derive(Debug, Clone, Default)]
pub struct Panel {
    pub title: String,
    pub x_label: String,
    pub y_label: String,
    /// `None`: as far as the points reach.
    pub x: Option<Range<f64>>,
    pub y: Option<Range<f64>>,
    /// Powers of ten; the points are given as they are.
    pub is_log: bool,
    /// Where x is a few choices, not a measure: their names, at 0, 1, 2 and so on.
    pub choices: Vec<String>,
    /// The legend stands at the right: what begins with a peak would hide behind it.
    pub legend_right: bool,
    pub series: Vec<Series>,
}

impl Panel {
    fn ranges(&self) -> (Range<f64>, Range<f64>) {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let span = |given: &Option<Range<f64>>, values: &mut dyn Iterator<Item = f64>| {
            given.clone().unwrap_or_else(|| {
                let (low, high) =
                    values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
                if low < high { low..high + (high - low) * 0.05 } else { 0.0..1.0 }
            })
        };
        let x = span(&self.x, &mut points().map(|point| point.0));
        let y = span(&self.y, &mut points().map(|point| point.1).chain((!self.is_log).then_some(0.0)));
        (x, if self.is_log { y.start.log10().floor()..y.end.log10().ceil() } else { y })
    }
}

/// Draws rows of panels under one title.
pub fn draw(path: &Path, title: &str, size: (u32, u32), rows: &[Vec<Panel>]) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot draw {}: {error}", path.display());
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    let root = root.titled(title, (FONT, 19)).map_err(|error| failed(&error))?.margin(2, 6, 4, 10);
    for (area, panels) in root.split_evenly((rows.len(), 1)).iter().zip(rows) {
        for (area, panel) in area.split_evenly((1, panels.len())).iter().zip(panels) {
            draw_panel(area, panel).map_err(|error| failed(&error))?;
        }
    }
    root.present().map_err(|error| failed(&error))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw_panel(area: &Area<'_>, panel: &Panel) -> Drawn {
    let (x, y) = panel.ranges();
    let mut builder = ChartBuilder::on(area);
    builder.margin(6).x_label_area_size(38).y_label_area_size(58);
    if !panel.title.is_empty() {
        builder.caption(&panel.title, (FONT, 15));
    }
    let mut chart = builder.build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(225, 225, 225))
        .axis_desc_style((FONT, 13))
        .label_style((FONT, 12))
        .x_desc(&panel.x_label)
        .y_desc(&panel.y_label)
        .x_labels(if panel.choices.is_empty() { 6 } else { panel.choices.len() })
        .y_labels(6)
        .x_label_formatter(&|x| choice(&panel.choices, *x).unwrap_or_else(|| number(*x)))
        .y_label_formatter(&|y| number(if panel.is_log { 10f64.powf(*y) } else { *y }))
        .draw()?;
    for series in &panel.series {
        draw_series(&mut chart, series, panel.is_log)?;
    }
    if panel.series.iter().any(|series| !series.name.is_empty()) {
        chart
            .configure_series_labels()
            .position(if panel.legend_right {
                SeriesLabelPosition::UpperRight
            } else {
                SeriesLabelPosition::UpperLeft
            })
            .background_style(WHITE.mix(0.85))
            .border_style(RGBColor(200, 200, 200))
            .label_font((FONT, 12))
            .legend_area_size(22)
            .margin(8)
            .draw()?;
    }
    Ok(())
}

fn draw_series<'a, 'b: 'a>(chart: &mut Chart<'a, 'b>, series: &Series, is_log: bool) -> Drawn {
    let colour = COLOURS[series.colour];
    let points: Vec<(f64, f64)> =
        series.thinned().into_iter().map(|(x, y)| (x, if is_log { y.log10() } else { y })).collect();
    let line = colour.stroke_width(2);
    let (mark, name) = (series.mark, series.name.clone());
    let drawn = match mark {
        Mark::Line => chart.draw_series([PathElement::new(points, line)])?,
        Mark::Dashes => {
            let path = DashedPathElement::new(points, 6, 4, line);
            chart.draw_series([path])?
        }
        Mark::DottedLine => {
            chart.draw_series(points.iter().map(|&point| Circle::new(point, 3, colour.filled())))?;
            chart.draw_series([PathElement::new(points, line)])?
        }
        Mark::Dots => {
            chart.draw_series(points.into_iter().map(|point| Circle::new(point, 2, colour.filled())))?
        }
        Mark::Crosses => chart.draw_series(points.into_iter().map(|point| Cross::new(point, 4, line)))?,
    };
    if !name.is_empty() {
        drawn.label(name).legend(move |(x, y)| {
            let across = vec![(x, y), (x + 18, y)];
            let middle = (x + 9, y);
            match mark {
                Mark::Line | Mark::DottedLine => PathElement::new(across, line).into_dyn(),
                Mark::Dashes => DashedPathElement::new(across, 6, 4, line).into_dyn(),
                Mark::Dots => Circle::new(middle, 2, colour.filled()).into_dyn(),
                Mark::Crosses => Cross::new(middle, 4, line).into_dyn(),
            }
        });
    }
    Ok(())
}

fn choice(choices: &[String], x: f64) -> Option<String> {
    let index = choices.iter().enumerate().find(|(index, _)| (*index as f64 - x).abs() < 0.01);
    match (choices.is_empty(), index) {
        (true, _) => None,
        (false, index) => Some(index.map(|(_, name)| name.clone()).unwrap_or_default()),
    }
}

/// As few digits as tell it.
fn number(value: f64) -> String {
    let digits = if value == 0.0 || value.abs() >= 10.0 { 0 } else { 3 };
    let text = format!("{value:.digits$}");
    if digits == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}
